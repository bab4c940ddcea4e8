"""A server of HTTP/1.1 on loopback, in a thread of the test, that answers as a function says."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Asked:
    """One request as it came, and ways to answer it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    number: int
    connection: int
    out: asyncio.StreamWriter = field(repr=False)

    @property
    def json(self):
        return json.loads(self.body)

    async def send(self, raw: bytes) -> None:
        self.out.write(raw)
        await self.out.drain()

    async def answer(self, body=b"", status=200, kind="application/json", headers=()) -> None:
        """A whole answer; what is no bytes is sent as JSON."""
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        await self.send(_head(status, [("Content-Type", kind), *headers], len(body)) + body)

    async def begin(self, kind="text/event-stream", status=200) -> None:
        """The head of an answer in chunks."""
        lines = [
            f"HTTP/1.1 {status} Whatever",
            f"Content-Type: {kind}",
            "Transfer-Encoding: chunked",
        ]
        await self.send("\r\n".join([*lines, "", ""]).encode())

    async def chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def event(self, data) -> None:
        text = data if isinstance(data, str) else json.dumps(data)
        await self.chunk(f"data: {text}\n\n".encode())

    async def end(self) -> None:
        await self.send(b"0\r\n\r\n")

    def reset(self) -> None:
        """End the connection by RST."""
        raw = self.out.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.out.transport.abort()

    def close(self) -> None:
        """End the connection by FIN."""
        self.out.close()


Script = Callable[[Asked], Awaitable[None]]


def _head(status: int, headers, length: int) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()


async def counts_nothing(asked: Asked) -> None:
    await asked.answer({"detail": "Not Found"}, 404)


class ScriptedServer:
    """Connections and requests are counted; ``asked`` has the requests.

    ``counts`` answers who asks for what the server counts; these are in ``looks``.
    """

    def __init__(
        self, script: Script, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
    ) -> None:
        self.script = script
        self.counts: Script = counts_nothing
        self.host = host
        self.asked: list[Asked] = []
        self.looks: list[Asked] = []
        self.connections = 0
        self.port = 0
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task] = set()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def origin(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self.host}:{self.port}"

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._main())
        self._loop.close()

    async def _main(self) -> None:
        server = await asyncio.start_server(self._connected, self.host, self.port, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = self.connections
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, path, _ = head[0].split(" ", 2)
                pairs = [line.split(": ", 1) for line in head[1:] if line]
                headers = {name.lower(): value for name, value in pairs}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                own = Asked(method, path, headers, body, len(self.asked), connection, writer)
                looks = method == "GET" and path.endswith(("/metrics", "/stats"))
                (self.looks if looks else self.asked).append(own)
                await (self.counts if looks else self.script)(own)
                if writer.is_closing():
                    break
        self._tasks.discard(task)
        writer.close()

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)


@contextmanager
def serving(script: Script, tls: ssl.SSLContext | None = None) -> Iterator[ScriptedServer]:
    """A server that answers by ``script`` until the block ends."""
    server = ScriptedServer(script, tls)
    server.start()
    try:
        yield server
    finally:
        server.stop()


async def at_once(asked: Asked) -> None:
    """Answer everything."""
    await asked.answer({"ok": True})


def answering(status=200, body=b"{}", **more) -> Script:
    """Answer everything so."""

    async def script(asked: Asked) -> None:
        await asked.answer(body, status, **more)

    return script


def after(count: int, then: Script) -> Script:
    """Answer so many requests, and the others by another script."""

    async def script(asked: Asked) -> None:
        await (at_once(asked) if asked.number < count else then(asked))

    return script


def chat_of(tokens: list[str], *, first_s: float = 0.0, gap_s: float = 0.0, done=True) -> Script:
    """An OpenAI-compatible server that answers with these tokens, at these times."""

    async def script(asked: Asked) -> None:
        if asked.path == "/v1/models":
            await asked.answer({"object": "list", "data": [{"id": "tiny"}]})
            return
        await asked.begin()
        await asked.event({"choices": [{"index": 0, "delta": {"role": "assistant"}}]})
        for number, token in enumerate(tokens):
            await asyncio.sleep(gap_s if number else first_s)
            choice = {"index": 0, "delta": {"content": token}, "finish_reason": None}
            await asked.event({"choices": [choice]})
        last = {"index": 0, "delta": {}, "finish_reason": "stop"}
        await asked.event({"choices": [last]})
        usage = {"prompt_tokens": 3, "completion_tokens": 2 * len(tokens)}
        await asked.event({"choices": [], "usage": usage})
        if done:
            await asked.event("[DONE]")
        await asked.end()

    return script
