"""HTTP/1.1 as callers send it: a session with one connection for each caller (aiohttp)."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from contextvars import ContextVar
from time import perf_counter_ns as now
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from inferload.records.server import ServerSeen
from inferload.targets.remote.arrivals import stamp_arrivals
from inferload.targets.remote.failures import (
    AnswerTooLarge,
    ConnectionFailed,
    ConnectTimedOut,
    CutOff,
    Disconnected,
    HostNotFound,
    NoAnswer,
    Redirected,
    RemoteFailure,
    TlsFailed,
    of_os_error,
    of_status,
    without_secrets,
)
from inferload.targets.remote.protocols.answer import Answer
from inferload.targets.remote.protocols.sse import Events
from inferload.targets.remote.protocols.streamed import Streamed
from inferload.targets.remote.reaching import CONNECT_S, tls_context
from inferload.version import __version__

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from aiohttp.abc import ResolveResult

    from inferload.plan.server import Server
    from inferload.targets.remote.address import Address
    from inferload.targets.remote.protocols.protocol import HttpProtocol, Request

# Times of connections are kept of so many.
_MOST_TIMES = 4096
_TAKING_LEAVE_S = 0.25
# So much of the body of a failure is read.
_MOST_OF_FAILURE = 4096
_resolved_ns: ContextVar[int] = ContextVar("resolved_ns", default=0)


class Connections:
    """The connections that callers opened, counted and timed."""

    def __init__(self) -> None:
        self.opened = 0
        self.opened_ms: list[float] = []
        self.resolved_ms: list[float] = []
        self._before = 0

    def add(self, took_ns: int, resolved_ns: int) -> None:
        """A connection was opened."""
        self.opened += 1
        if len(self.opened_ms) < _MOST_TIMES:
            self.opened_ms.append(took_ns / 1e6)
            self.resolved_ms.append(resolved_ns / 1e6)

    def begin(self) -> None:
        """From here on calls are measured."""
        self._before = self.opened
        self.opened_ms.clear()
        self.resolved_ms.clear()

    def seen(self) -> ServerSeen:
        """What is known of them."""
        return ServerSeen(
            opened_before=self._before,
            opened=self.opened - self._before,
            opened_ms=tuple(self.opened_ms),
            resolved_ms=tuple(self.resolved_ms),
        )


class _TimedResolver(ThreadedResolver):
    async def resolve(self, *args: Any, **kwargs: Any) -> list[ResolveResult]:
        began = now()
        found = await super().resolve(*args, **kwargs)
        _resolved_ns.set(now() - began)
        return found


class _TimedConnector(aiohttp.TCPConnector):
    """Tells when it opens a connection; what is kept is taken without coming by here."""

    def __init__(self, connections: Connections, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._own = connections

    async def _create_connection(self, *args: Any, **kwargs: Any) -> Any:
        _resolved_ns.set(0)
        began = now()
        found = await super()._create_connection(*args, **kwargs)
        self._own.add(now() - began, _resolved_ns.get())
        return found


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
        self._arrivals: list[list[int]] = []
        #: How the server names itself, once it has answered.
        self.software: str | None = None

    @asynccontextmanager
    async def opened(self, callers: int, *, stamped: bool) -> AsyncIterator[None]:
        """Sessions for so many callers; connections are opened by their first requests.

        ``stamped``: it is noted when bytes arrive.
        """
        self._sessions = [self._session() for _ in range(callers)]
        loop = asyncio.get_running_loop()
        self._arrivals = [
            stamp_arrivals(one.connector, loop) if stamped else [] for one in self._sessions
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
        server, address = self._server, self._address
        new = server.connections == "new"
        connector = _TimedConnector(
            self.connections if connections is None else connections,
            limit=0,
            force_close=new,
            **({} if new else {"keepalive_timeout": 3600.0}),
            resolver=_TimedResolver(),
            use_dns_cache=not new,
            ssl=tls_context(insecure=server.insecure) if address.tls else True,
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
            except (RemoteFailure, aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
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
            arrivals.clear()
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
                        found = events.feed(chunk)
                        # an event that came alone has the time of its bytes, by their order
                        first = len(arrivals) - len(found)
                        for place, event in enumerate(found, first):
                            piece = reader.piece(event)
                            if piece is not None:
                                told.arrived_ns = arrivals[max(place, 0)] if arrivals else now()
                                yield piece
                        arrivals.clear()
                    events.end()
                    reader.end()
            except (RemoteFailure, aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
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
                    self.software = response.headers.get("Server")
                    if not 200 <= response.status < 300:
                        raise await self._failed(response)
                    return await self._body_of(response), response.headers
            except (RemoteFailure, aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
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
            except (RemoteFailure, aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
                raise self._failure_of(error) from None

    def _url(self, path: str) -> URL:
        scheme = "https" if self._address.tls else "http"
        return URL(f"{scheme}://{self._address.authority}{path}", encoded=True)

    async def _body_of(self, response: aiohttp.ClientResponse) -> bytes:
        length, most = response.content_length, self._most
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
            where = URL(response.headers.get("Location", ""))
            to = f"{where.host}:{where.port}" if where.host else "another path"
            return Redirected(f"status {status}, to {to}: give the URL that answers")
        body = await response.content.read(_MOST_OF_FAILURE)
        if not response.content.at_eof():
            response.close()  # nobody knows how much more there is
        return of_status(status, body, response.headers.get("Retry-After"))

    def _failure_of(self, error: BaseException) -> RemoteFailure:
        found = error if isinstance(error, RemoteFailure) else self._of_client(error)
        kept: RemoteFailure = without_secrets(found, self._secrets)
        return kept

    def _of_client(self, error: BaseException) -> RemoteFailure:  # noqa: PLR0911 - one a class
        what = self._address.authority
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            return HostNotFound(f"{self._address.host} has no address: {error.os_error.strerror}")
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            return TlsFailed(f"the certificate of {what} cannot be trusted")
        if isinstance(error, aiohttp.ClientSSLError):
            return TlsFailed(f"no secure connection to {what}: {error}")
        if isinstance(error, aiohttp.ClientPayloadError):
            return CutOff("the answer broke off before its end")
        if isinstance(error, aiohttp.ServerDisconnectedError):
            return Disconnected(f"{what} closed the connection before it answered")
        if isinstance(error, asyncio.TimeoutError):
            return ConnectTimedOut(f"{what} did not accept a connection within {CONNECT_S:g} s")
        if isinstance(error, aiohttp.ClientResponseError):
            return NoAnswer(f"what came back is no HTTP: {error.message}")
        if isinstance(error, OSError):
            return of_os_error(getattr(error, "os_error", error), what)
        return ConnectionFailed(f"{type(error).__name__}: {error}")
