"""A proxy on loopback that does to answers what networks and failing servers do."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass


@dataclass
class Faults:
    """What is done to each connection that is opened from now on.

    ``delay_s``: before each piece of an answer is passed on; ``first_byte_s``: before the first one
    alone. ``after_bytes``: of an answer so many are passed on, and then the connection is ended
    ``by`` ``"fin"``, ``"rst"`` or ``"silence"``. ``instead``: what is answered in place of the
    server.
    """

    delay_s: float = 0.0
    first_byte_s: float = 0.0
    after_bytes: int | None = None
    by: str = "fin"
    instead: bytes | None = None


UNAVAILABLE = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nRetry-After: 2\r\n"
    b"Content-Length: 9\r\n\r\noverload\n"
)


class FaultProxy:
    """Passes on what comes, with faults that can be changed while it runs.

    ``only``: of which connections, by their number from 1 of those that ask a model: not who only
    connects, or asks for pages. ``hit``: how many of them there were.
    """

    def __init__(self, to: int) -> None:
        self.faults = Faults()
        self.only: Callable[[int], bool] = lambda number: True
        self.connections = 0
        self.hit = 0
        self.port = 0
        self._to = to
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task] = set()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._main())
        self._loop.close()

    async def _main(self) -> None:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        back = None
        try:
            with suppress(OSError, asyncio.CancelledError):
                up = await asyncio.open_connection("127.0.0.1", self._to)
                data = await reader.read(65_536)
                hit = False
                if data.startswith((b"POST", b"PRI ")):  # of HTTP/1.1, and of HTTP/2
                    self.connections += 1
                    hit = self.only(self.connections)
                    self.hit += hit
                back = asyncio.create_task(self._answers(up[0], writer, hit=hit))
                while data:
                    if hit and self.faults.instead is not None:
                        writer.write(self.faults.instead)
                    else:
                        up[1].write(data)
                    data = await reader.read(65_536)
        finally:
            if back is not None:
                back.cancel()
                up[1].close()
            writer.close()
            self._tasks.discard(task)

    async def _answers(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, hit: bool
    ) -> None:
        passed = 0
        with suppress(OSError):
            while data := await reader.read(65_536):
                faults = self.faults if hit else Faults()
                await asyncio.sleep(faults.delay_s + (0 if passed else faults.first_byte_s))
                if faults.after_bytes is not None:
                    data = data[: max(faults.after_bytes - passed, 0)]
                writer.write(data)
                passed += len(data)
                if faults.after_bytes is not None and passed >= faults.after_bytes:
                    await writer.drain()
                    if faults.by == "silence":
                        await asyncio.sleep(3600)
                    if faults.by == "rst":
                        raw = writer.get_extra_info("socket")
                        linger = struct.pack("ii", 1, 0)
                        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                        writer.transport.abort()
                    break
            writer.close()

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)


@contextmanager
def proxied(to: int) -> Iterator[FaultProxy]:
    """A proxy to a port of loopback until the block ends."""
    proxy = FaultProxy(to)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
