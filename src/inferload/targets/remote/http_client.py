"""A protocol over HTTP and the wire that its requests are sent by, as a target needs them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from inferload.targets.remote.protocols.answer import Answer
from inferload.targets.remote.protocols.sse import Events
from inferload.targets.remote.protocols.streamed import Streamed, nothing
from inferload.targets.remote.wire import HttpWire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from inferload.plan.server import Server
    from inferload.records.server import Reached, ServerModel, ServerSeen
    from inferload.targets.inputs.call_input import CallInput
    from inferload.targets.remote.address import Address
    from inferload.targets.remote.protocols.protocol import HttpProtocol, Request


class HttpClient:
    """What a target asks of any client, for protocols over HTTP."""

    def __init__(
        self,
        server: Server,
        address: Address,
        headers: dict[str, str],
        secrets: tuple[str, ...],
        *,
        protocol: HttpProtocol,
    ) -> None:
        self._wire = HttpWire(server, address, headers, secrets)
        self._protocol = protocol
        self.words = protocol.words

    @property
    def in_pieces(self) -> bool:
        """Whether answers come in pieces; of plain HTTP the first answer says so."""
        return self._protocol.in_pieces

    @property
    def http(self) -> str:
        """The version of HTTP that the server has answered in."""
        return self._wire.http

    async def meet(self) -> ServerModel | None:
        """What the server says of the model."""
        return await self._protocol.meet(self._wire)

    def request(self, number: int, one: CallInput) -> tuple[Request, int | None]:
        """The request for an input, and how many samples it has, where that is known."""
        found = self._protocol.request(number, one)
        return found, found.items

    async def first(self, request: Request) -> None:
        """Send a request alone, and read all of its answer."""
        await self.alone(request)

    async def alone(self, request: Request) -> Any:
        """The values of an answer, of one in pieces a list of them."""
        body, headers = await self._wire.alone(request)
        found = self._protocol.read(body, headers)
        if not self._protocol.in_pieces:
            return found

        events = Events()
        reader = self._protocol.reader(headers, Streamed(nothing))
        found = [reader.piece(event) for event in events.feed(body)]
        events.end()
        reader.end()
        return [piece for piece in found if piece is not None]

    def values_of(self, output: Any) -> Any:
        """What is in a whole answer; of one in pieces these."""
        if isinstance(output, Answer):
            return self._protocol.read(output.body, output.headers)
        return output

    @asynccontextmanager
    async def opened(self, callers: int) -> AsyncIterator[None]:
        """Sessions for so many callers."""
        async with self._wire.opened(callers, stamped=self._protocol.in_pieces):
            yield

    def begin(self) -> None:
        """Calls are measured from here on."""
        self._wire.connections.begin()

    def call(self, caller: int, request: Request) -> Callable[[], Any]:
        """What sends a request."""
        if self._protocol.in_pieces:
            return self._wire.streamed_call(caller, request, self._protocol)
        return self._wire.whole_call(caller, request, self._protocol)

    def seen(self, reached: Reached | None) -> ServerSeen:
        """What its callers saw of the server."""
        found = self._wire.connections.seen()
        return replace(found, reached=reached, software=self._wire.software)
