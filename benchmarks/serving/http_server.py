"""As much of HTTP/1.1 as the servers of known times need, on the fastest loop there is."""

from __future__ import annotations

import asyncio
import gc
import socket
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, cast

from serving import wording

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


def run(main: Coroutine[object, object, None], *, plain: bool = False) -> None:
    """Run a program's loop: uvloop's where it is installed, unless asyncio's is asked for."""
    loop = asyncio.new_event_loop()
    if not plain:
        try:
            import uvloop  # type: ignore[import-not-found, unused-ignore]
        except ImportError:
            pass
        else:
            loop.close()
            loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(main)
    finally:
        loop.close()


def answer(body: str, kind: str = "application/json") -> bytes:
    """A whole answer."""
    data = body.encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


_MODELS, _HEALTHY = answer(wording.models()), answer("{}")


class Connection(asyncio.Protocol, ABC):
    """A connection whose requests are POSTs of a known length, one after another."""

    def __init__(self) -> None:
        self._rest = b""
        self.out: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self.out = cast("asyncio.Transport", transport)  # uvloop's is of no class of asyncio's
        own = transport.get_extra_info("socket")
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed: what is still due for it is not written."""
        del exc
        self.out = None

    def data_received(self, data: bytes) -> None:
        """Find whole requests."""
        text = self._rest + data
        while (end := text.find(b"\r\n\r\n")) >= 0:
            head = text[:end].lower()
            _, found, after = head.partition(b"\r\ncontent-length:")
            ends = end + 4 + (int(after.split(b"\r\n", 1)[0]) if found else 0)
            if len(text) < ends:
                break
            text, body = text[ends:], text[end + 4 : ends]
            if head.startswith(b"post "):
                self.asked(body)
            else:
                self.write(self.page(head.split(b" ", 2)[1].decode()))
        self._rest = text

    def write(self, data: bytes) -> None:
        """Send, unless the other end has gone."""
        if self.out is not None:
            self.out.write(data)

    def page(self, path: str) -> bytes:
        """What a GET is answered with."""
        return _MODELS if path == "/v1/models" else _HEALTHY

    @abstractmethod
    def asked(self, body: bytes) -> None:
        """A request came, as a whole."""


async def serve(port: int, connection: Callable[[], Connection]) -> None:
    """Answer until this process is ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(connection, "127.0.0.1", port, backlog=4096)
    gc.freeze()
    async with server:
        await server.serve_forever()
