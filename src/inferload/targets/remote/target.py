"""A model behind a server as a target: requests made beforehand, sent by tasks of an event loop."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from inferload.errors import PlanError
from inferload.plan.server import MOST_ANSWER_BYTES, SERVER_PACKAGES
from inferload.records.server import ServerModel, ServerSeen, ServerSpec
from inferload.targets.base import Target
from inferload.targets.inputs.call_input import CallInput, item_count
from inferload.targets.outputs.settling import awaited
from inferload.targets.remote.address import Address
from inferload.targets.remote.failures import (
    ConnectionReset,
    ConnectTimedOut,
    CutOff,
    Disconnected,
    RemoteFailure,
    ServerError,
    TooManyRequests,
    Unavailable,
    masked,
)
from inferload.targets.remote.headers import resolved, resolved_body
from inferload.targets.remote.protocols.openai import OpenAi
from inferload.targets.remote.protocols.plain import PlainHttp
from inferload.targets.remote.protocols.v2_http import V2Http
from inferload.targets.remote.reaching import reach

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from inferload.plan.server import Server
    from inferload.records.server import Reached
    from inferload.targets.remote.protocols.protocol import HttpProtocol

# The first request tells a wrong URL or input before anything is measured; it may take so long.
FIRST_S = 60.0
# What it says of its models is there at once.
MEET_S = 10.0
# What may happen once to a request that is right is tried so often.
FIRST_TRIES = 3
_AGAIN_S = 0.2
_ONCE = (ServerError, Disconnected, ConnectionReset, CutOff)
_MAY_PASS = (TooManyRequests, Unavailable, ConnectTimedOut)


class RemoteTarget(Target):
    """A model behind a server."""

    def __init__(self, server: Server, name: str | None = None) -> None:
        """Read the URL; nothing is sent yet.

        Raises:
            PlanError: the URL or a header is wrong, or a package is missing.
        """
        missing = [one for one in SERVER_PACKAGES if importlib.util.find_spec(one) is None]
        if missing:
            raise PlanError(
                f"a server is spoken to by {', '.join(SERVER_PACKAGES)}, and "
                f"{', '.join(missing)} is not installed: pip install 'inferload[remote]'"
            )
        self.server = server
        self.address = address = Address.of(server.url)
        if server.insecure and not address.tls:
            raise PlanError(
                f"insecure (--insecure) is of certificates, and {address.scheme}:// has none: "
                "leave it out"
            )
        version = f" version {address.version}" if address.version else ""
        own = address.path if address.model is None else f"{address.model}{version}"
        super().__init__(name or f"{own} at {address.origin}")
        self.form = address.protocol
        self._headers, self._secrets = resolved(server.header_pairs)
        self._body, of_body = resolved_body(server.body)
        self._secrets += of_body
        self._client: Any = self._new_client()
        self._reached: Reached | None = None
        self._model: ServerModel | None = None
        self._requests: list[Any] = []
        self._items: list[int] = []

    def __reduce__(self) -> tuple[Any, ...]:
        """Other processes make their own."""
        return RemoteTarget, (self.server, self.name)

    def _new_client(self) -> Any:
        given = (self.server, self.address, self._headers, self._secrets)
        if self.address.protocol == "v2-grpc":
            if self.server.body is not None:
                raise PlanError("a message of gRPC has no body of JSON: leave body (--body) out")
            from inferload.targets.remote.grpc_client import GrpcClient

            return GrpcClient(*given)
        from inferload.targets.remote.http_client import HttpClient

        return HttpClient(*given, protocol=self._protocol())

    def _protocol(self) -> HttpProtocol:
        kind, body = self.address.protocol, self._body
        if kind == "v2-http":
            if body is not None:
                raise PlanError(
                    "bodies of the Open Inference Protocol are made of the inputs: leave body "
                    "(--body) out, or give whole bodies (--inputs FILE.jsonl)"
                )
            return V2Http(self.address)
        if kind == "http":
            return PlainHttp(self.address.path, body)
        return OpenAi(self.address, body)

    @property
    def asynchronous(self) -> bool:
        """It always is."""
        return True

    @property
    def answers_in_pieces(self) -> bool:
        """Whether answers are streamed."""
        return bool(self._client.in_pieces)

    @property
    def is_coroutine(self) -> bool:
        """Whether answers are whole."""
        return not self.answers_in_pieces

    def load(self, callers: int) -> None:
        """Connect once, and ask for what the server says of the model.

        Raises:
            PlanError: it cannot be reached, or has no such model.
        """
        del callers
        self._reached = reach(self.address, insecure=self.server.insecure)
        try:
            found = awaited(asyncio.wait_for(self._client.meet(), MEET_S))
        except RemoteFailure as error:
            raise PlanError(f"{self.name}: {_told(error)}") from None
        except asyncio.TimeoutError:
            raise PlanError(
                f"{self.name} does not say what its model takes within {MEET_S:g} s: is it still "
                "loading? Ask again when it answers"
            ) from None
        self._model = None if found is None else _masked(found, self._secrets)
        self._requests, self._items = [], []

    def bind(self, number: int, call_input: CallInput) -> CallInput:
        """Make its request, which all callers send; they need no copies of the input.

        Raises:
            PlanError: it does not fit.
        """
        request, items = self._client.request(number, call_input)
        self._requests.append(request)
        self._items.append(item_count(call_input) if items is None else items)
        return CallInput(items=self._items[-1])

    def values_of(self, number: int, output: Any) -> Any:
        """What is in an answer; what cannot be read stays as it came."""
        del number
        try:
            return self._client.values_of(output)
        except RemoteFailure:
            return output

    def items_of(self, number: int, given: CallInput) -> int:
        """How many samples an input has, as its request says."""
        del given
        return self._items[number]

    def prepare(self, inputs: Sequence[CallInput]) -> None:
        """Send the first request alone: a wrong one is told before anything is measured.

        Raises:
            PlanError: the server refuses it, or what it answers is no answer.
        """
        del inputs
        for left in reversed(range(FIRST_TRIES)):
            began = time.perf_counter()
            try:
                awaited(asyncio.wait_for(self._client.first(self._requests[0]), FIRST_S))
            except asyncio.TimeoutError:
                raise PlanError(
                    f"{self.name} had not answered its first request after {FIRST_S:g} s: is it "
                    "still loading? Ask again when it has answered one"
                ) from None
            except RemoteFailure as error:
                if isinstance(error, (*_ONCE, *_MAY_PASS)) and left:
                    time.sleep(_AGAIN_S)
                    continue
                if isinstance(error, _MAY_PASS):
                    return  # it is busy: callers will see
                raise PlanError(
                    f"the first request to {self.name} came to nothing: {_told(error)}"
                    f"{self._perhaps(error)}"
                ) from None
            self.first_call_ms = (time.perf_counter() - began) * 1e3
            return

    def _perhaps(self, error: RemoteFailure) -> str:
        """What may be wrong, where that is known."""
        if isinstance(error, Disconnected) and not self.address.tls:
            return f" (a guess: it is https://{self.address.authority}... there)"
        return ""

    @asynccontextmanager
    async def while_awaited(self, callers: int) -> AsyncIterator[None]:
        """Sessions for the callers of one loop."""
        # what has been loaded is not looked through while requests are timed: 18 ms at once
        own = gc.get_freeze_count() == 0  # what somebody else has frozen stays so
        if own:
            gc.collect()
            gc.freeze()
        try:
            async with self._client.opened(callers):
                yield
        finally:
            if own:
                gc.unfreeze()

    def begin(self) -> None:
        """Calls are measured from here on."""
        self._client.begin()

    def calls_of(self, caller: int, own: Sequence[CallInput]) -> list[Callable[[], Any]]:
        """What a caller awaits for each input."""
        del own
        return [self._client.call(caller, request) for request in self._requests]

    def call_of(self, caller: int, number: int, own: CallInput) -> Callable[[], Any]:
        """As :meth:`calls_of`: a request is not changed by being sent."""
        del own
        found: Callable[[], Any] = self._client.call(caller, self._requests[number])
        return found

    def python_callable(self) -> Callable[..., Any]:
        """One request alone, of the first input."""
        return self.callable_for(0)

    def callable_for(self, number: int) -> Callable[..., Any]:
        """What computes an input alone."""
        return partial(self._alone, number)

    async def _alone(self, number: int, *_: Any, **__: Any) -> Any:
        return await self._client.alone(self._requests[number])

    def servers(self) -> tuple[ServerSpec, ...]:
        """Which server is asked, and how."""
        server = self.server
        own = ServerSpec(
            url=server.url,
            protocol=self._client.words,
            http=self._client.http,
            connections=server.connections,
            headers=server.header_pairs,
            insecure=server.insecure,
            body=server.body,
            answer_bytes=None if server.answer_bytes == MOST_ANSWER_BYTES else server.answer_bytes,
            model=self._model,
        )
        return (own,)

    def seen(self) -> tuple[ServerSeen, ...]:
        """What its callers saw of the server."""
        return (self._client.seen(self._reached),)


def _masked(found: ServerModel, secrets: tuple[str, ...]) -> ServerModel:
    """What a server says of a model, without what was said to it in secret."""

    def each(texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(masked(one, secrets) for one in texts)

    return ServerModel(
        name=masked(found.name, secrets),
        versions=each(found.versions),
        platform=None if found.platform is None else masked(found.platform, secrets),
        inputs=each(found.inputs),
        outputs=each(found.outputs),
    )


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}, {error}"
