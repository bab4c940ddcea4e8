"""One connection before anything else: whether the server is there, and what connecting takes."""

from __future__ import annotations

import os
import socket
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING

from inferload.errors import PlanError
from inferload.files import is_file
from inferload.records.server import Reached

if TYPE_CHECKING:
    from inferload.targets.remote.address import Address

CONNECT_S = 10.0


def tls_context(*, insecure: bool, http2: bool = False) -> ssl.SSLContext:
    """What certificates are verified by: the system's authorities, or SSL_CERT_FILE's."""
    own = os.environ.get("SSL_CERT_FILE")
    if own and not is_file(Path(own)):
        raise PlanError(f"SSL_CERT_FILE names {own}, and there is no such file")
    context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if http2:
        context.set_alpn_protocols(["h2"])
    return context


def reach(address: Address, *, insecure: bool) -> Reached:
    """Connect once, and close.

    Raises:
        PlanError: the server cannot be reached, saying why.
    """
    began = time.perf_counter()
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise PlanError(
            f"the host {address.host} has no address ({error.strerror or error}): check the URL"
        ) from None
    resolved = time.perf_counter()
    connected = _connected(address, found)
    opened = time.perf_counter()
    version = None
    try:
        where = connected.getpeername()[0]
        if address.tls:
            version = _tls_version(address, connected, insecure=insecure)
    finally:
        connected.close()
    return Reached(
        address=f"[{where}]:{address.port}" if ":" in where else f"{where}:{address.port}",
        resolve_ms=(resolved - began) * 1e3,
        connect_ms=(opened - resolved) * 1e3,
        tls_ms=(time.perf_counter() - opened) * 1e3 if address.tls else None,
        tls=version,
    )


def _connected(address: Address, found: list[tuple]) -> socket.socket:  # type: ignore[type-arg]
    last: OSError | None = None
    for family, kind, proto, _, where in found:
        one = socket.socket(family, kind, proto)
        one.settimeout(CONNECT_S)
        try:
            one.connect(where)
        except OSError as error:
            one.close()
            last = error
        else:
            return one
    if isinstance(last, ConnectionRefusedError):
        raise PlanError(
            f"nothing listens at {address.authority} (connection refused): start the server, or "
            "check the port"
        )
    if isinstance(last, TimeoutError):
        raise PlanError(
            f"{address.authority} did not accept a connection within {CONNECT_S:g} s: is the host "
            "up, and the port open?"
        )
    raise PlanError(f"{address.authority} cannot be connected to: {last}")


def _tls_version(address: Address, connected: socket.socket, *, insecure: bool) -> str | None:
    context = tls_context(insecure=insecure, http2=address.scheme == "grpcs")
    try:
        with context.wrap_socket(connected, server_hostname=address.host) as secure:
            return secure.version()
    except ssl.SSLCertVerificationError as error:
        raise PlanError(
            f"the certificate of {address.authority} cannot be trusted ({error.verify_message}): "
            "name the file of its authority by the environment variable SSL_CERT_FILE, or give "
            "--insecure (insecure=True), which verifies nothing and is told in the report"
        ) from None
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise PlanError(
            f"{address.authority} does not speak TLS as {address.scheme} needs it ({reason}): is "
            f"it {address.scheme.removesuffix('s')}:// there?"
        ) from None
