"""The failures that errors of aiohttp mean, and answers that nobody can read."""

from __future__ import annotations

import asyncio

import aiohttp

from inferload.targets.remote.failures import (
    MALFORMED,
    ConnectionFailed,
    ConnectTimedOut,
    CutOff,
    Disconnected,
    HostNotFound,
    NoAnswer,
    RemoteFailure,
    TlsFailed,
    of_os_error,
)
from inferload.targets.remote.reaching import CONNECT_S

#: What comes of a request in place of its answer.
TROUBLES = (RemoteFailure, aiohttp.ClientError, OSError, asyncio.TimeoutError, *MALFORMED)


def failure_of(error: BaseException, what: str) -> RemoteFailure:  # noqa: C901, PLR0911 - one a class
    """The failure that an error means; ``what``: host and port that were asked."""
    if isinstance(error, RemoteFailure):
        return error
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return HostNotFound(f"{what} has no address: {error.os_error.strerror}")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return TlsFailed(f"the certificate of {what} cannot be trusted")
    if isinstance(error, aiohttp.ClientSSLError):
        return TlsFailed(f"no secure connection to {what}: {error}")
    if isinstance(error, aiohttp.ClientPayloadError):
        return CutOff("the answer broke off before its end")
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientConnectionResetError):
        return Disconnected(f"{what} closed the connection before it answered")
    if isinstance(error, asyncio.TimeoutError):
        return ConnectTimedOut(f"{what} did not accept a connection within {CONNECT_S:g} s")
    if isinstance(error, aiohttp.ClientResponseError):
        return NoAnswer("what came back is no HTTP (a guess: it is grpc:// or https:// there)")
    if isinstance(error, OSError):
        return of_os_error(getattr(error, "os_error", error), what)
    if isinstance(error, MALFORMED):
        return NoAnswer(f"the answer cannot be read: {type(error).__name__}")
    return ConnectionFailed(f"{type(error).__name__}: {error}")
