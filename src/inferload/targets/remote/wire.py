"""HTTP/1.1 as callers send it: a session with one connection for each caller (aiohttp)."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from inferload.targets.remote.arrivals import Arrivals, stamp_arrivals
from inferload.targets.remote.client_failures import TROUBLES, failure_of
from inferload.targets.remote.connections import Connections, TimedConnector, TimedResolver
from inferload.targets.remote.failures import (
    AnswerTooLarge,
    NoAnswer,
    Redirected,
    RemoteFailure,
    masked,
    of_status,
    without_secrets,
    without_secrets_in,
)
from inferload.targets.remote.protocols.answer import Answer
from inferload.targets.remote.protocols.sse import Events
from inferload.targets.remote.protocols.streamed import Streamed
from inferload.targets.remote.reaching import CONNECT_S, tls_context
from inferload.units import printable
from inferload.version import __version__

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from inferload.plan.server import Server
    from inferload.targets.remote.address import Address
    from inferload.targets.remote.protocols.protocol import HttpProtocol, Request

_TAKING_LEAVE_S = 0.25
_MOST_OF_PLACE = 200
# So much of the body of a failure is read.
_MOST_OF_FAILURE = 65_536


class HttpWire:
    """What sends requests to one server."""

    def __init__(
        self,
        server: Server,
        address: Address,
        headers: dict[str, str],
        secrets: tuple[str, ...],
    ) -> None:
        self._server = server
        self._address = address
        self._headers = {"User-Agent": f"inferload/{__version__}"} | headers
        self._secrets = secrets
        self._most = server.answer_bytes
        self.connections = Connections()
        self._sessions: list[aiohttp.ClientSession] = []
        self._arrivals: list[Arrivals] = []
        #: How the server names itself, and what it speaks, once it has answered.
        self.software: str | None = None
        self.http = "HTTP/1.1"
        self._context: Any = tls_context(insecure=server.insecure) if address.tls else True

    @asynccontextmanager
    async def opened(self, callers: int, *, stamped: bool) -> AsyncIterator[None]:
        """Sessions for so many callers; connections are opened by their first requests.

        ``stamped``: it is noted when bytes arrive.
        """
        self._sessions = [self._session() for _ in range(callers)]
        loop = asyncio.get_running_loop()
        self._arrivals = [
            stamp_arrivals(one.connector, loop) if stamped else Arrivals() for one in self._sessions
        ]
        try:
            yield
        finally:
            sessions, self._sessions = self._sessions, []
            for one in sessions:
                await one.close()
            if self._address.tls:  # connections take their leave, as aiohttp's documents ask for
                await asyncio.sleep(_TAKING_LEAVE_S)

    def _session(self, connections: Connections | None = None) -> aiohttp.ClientSession:
        new = self._server.connections == "new"
        connector = TimedConnector(
            self.connections if connections is None else connections,
            limit=0,
            force_close=new,
            **({} if new else {"keepalive_timeout": 3600.0}),
            resolver=TimedResolver(),
            use_dns_cache=not new,
            ssl=self._context,
        )
        return aiohttp.ClientSession(
            connector=connector,
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
            auto_decompress=False,
            skip_auto_headers=("Accept-Encoding",),
            trust_env=False,
        )

    def whole_call(
        self, caller: int, request: Request, protocol: HttpProtocol
    ) -> Callable[[], Awaitable[Answer]]:
        """What sends a request, and returns its answer when all of that is there."""
        post, url, headers = self._sessions[caller].post, self._url(request.path), request.headers
        body, look, read = request.body, protocol.looked_at, self._body_of

        async def call() -> Answer:
            try:
                async with post(url, data=body, headers=headers, allow_redirects=False) as response:
                    if not 200 <= response.status < 300:
                        raise await self._failed(response)
                    found = await read(response)
                look(found, response.headers)
            except TROUBLES as error:
                raise self._failure_of(error) from None
            return Answer(found, response.headers)

        return call

    def streamed_call(
        self, caller: int, request: Request, protocol: HttpProtocol
    ) -> Callable[[], Streamed]:
        """What sends a request, and returns its answer's pieces as they come."""
        post, arrivals = self._sessions[caller].post, self._arrivals[caller]
        url, headers, body = self._url(request.path), request.headers, request.body
        most = self._most

        async def pieces(told: Streamed) -> AsyncIterator[Any]:
            arrivals.begin()
            events, size = Events(), 0
            try:
                async with post(url, data=body, headers=headers, allow_redirects=False) as response:
                    if not 200 <= response.status < 300:
                        raise await self._failed(response)
                    reader = protocol.reader(response.headers, told)
                    async for chunk in response.content.iter_any():
                        size += len(chunk)
                        if size > most:
                            raise self._too_large("what came")
                        for part, told.arrived_ns in arrivals.parts(chunk):
                            for event in events.feed(part):
                                piece = reader.piece(event)
                                if piece is not None:
                                    yield piece
                    events.end()
                    reader.end()
            except TROUBLES as error:
                raise self._failure_of(error) from None

        return lambda: Streamed(pieces)

    async def alone(self, request: Request) -> tuple[bytes, Any]:
        """One request, by a session of its own: its answer's body and headers.

        Raises:
            RemoteFailure: it came to nothing.
        """
        async with self._session(Connections()) as session:
            try:
                async with session.post(
                    self._url(request.path),
                    data=request.body,
                    headers=request.headers,
                    allow_redirects=False,
                ) as response:
                    software = response.headers.get("Server")
                    self.software = None if software is None else masked(software, self._secrets)
                    if response.version is not None:
                        self.http = f"HTTP/{response.version.major}.{response.version.minor}"
                    if not 200 <= response.status < 300:
                        raise await self._failed(response)
                    return await self._body_of(response), response.headers
            except TROUBLES as error:
                raise self._failure_of(error) from None

    async def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of a page of the server.

        Raises:
            RemoteFailure: there is no answer.
        """
        async with self._session(Connections()) as session:
            try:
                async with session.get(self._url(path), allow_redirects=False) as response:
                    return response.status, await self._body_of(response)
            except TROUBLES as error:
                raise self._failure_of(error) from None

    def _url(self, path: str) -> URL:
        scheme = "https" if self._address.tls else "http"
        return URL(f"{scheme}://{self._address.authority}{path}", encoded=True)

    async def _body_of(self, response: aiohttp.ClientResponse) -> bytes:
        length, most = response.content_length, self._most
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise NoAnswer(
                f"the answer is compressed ({response.headers['Content-Encoding'][:20]}), which "
                "was not asked for"
            )
        if length is not None and length <= most:
            return await response.read()
        found = bytearray()
        async for chunk in self._bounded(response):
            found += chunk
        return bytes(found)

    async def _bounded(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """What arrives, as it arrives, until it is too much."""
        size, most = 0, self._most
        length = response.content_length
        if length is not None and length > most:
            raise self._too_large(f"{length:,} bytes, says the server,")
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > most:
                raise self._too_large("what came")
            yield chunk

    def _too_large(self, what: str) -> AnswerTooLarge:
        return AnswerTooLarge(
            f"{what} is more than the {self._most:,} bytes that an answer may have: allow more by "
            "--answer-bytes (answer_bytes=)"
        )

    async def _failed(self, response: aiohttp.ClientResponse) -> RemoteFailure:
        status = response.status
        if 300 <= status < 400:
            where = printable(response.headers.get("Location", "nowhere"))[:_MOST_OF_PLACE]
            return Redirected(
                f"status {status}, to {where}: redirects are not followed, give the URL that "
                "answers"
            )
        body = bytearray()
        # to its end, so that the connection is kept; nobody knows how much more there is
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > _MOST_OF_FAILURE:
                break
        shown = without_secrets_in(bytes(body), self._secrets)  # before anything of it is cut off
        return of_status(status, shown, response.headers.get("Retry-After"))

    def _failure_of(self, error: BaseException) -> RemoteFailure:
        found = failure_of(error, self._address.authority)
        kept: RemoteFailure = without_secrets(found, self._secrets)
        return kept
