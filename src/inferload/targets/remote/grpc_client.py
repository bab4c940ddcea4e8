"""The Open Inference Protocol v2 over gRPC (tritonclient's stubs, grpc.aio's channels)."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import InferResult, service_pb2, service_pb2_grpc
from tritonclient.utils import serialize_byte_tensor

from inferload.errors import PlanError
from inferload.records.server import ServerSeen
from inferload.targets.remote.failures import (
    AnswerTooLarge,
    ConnectionRefused,
    HostNotFound,
    NoAnswer,
    RemoteFailure,
    RequestRefused,
    ServerError,
    TooManyRequests,
    Unavailable,
    masked,
    without_secrets,
)
from inferload.targets.remote.grpc_channel import credentials, options_for
from inferload.targets.remote.protocols.v2_tensors import (
    WORDS,
    arrays_of,
    check_whole,
    items_in,
    model_of,
    tensor_of,
)
from inferload.targets.remote.reaching import CONNECT_S
from inferload.units import printable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from inferload.plan.server import Server
    from inferload.records.server import Reached, ServerModel
    from inferload.targets.inputs.call_input import CallInput
    from inferload.targets.remote.address import Address

# What its client says of connections, in the words of an Unavailable.
_BY_WORDS = (
    (TooManyRequests, "larger than max", AnswerTooLarge),
    (Unavailable, "onnection refused", ConnectionRefused),
    (Unavailable, "DNS resolution failed", HostNotFound),
)
_REFUSED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNIMPLEMENTED,
}


class GrpcClient:
    """One model of a server that speaks it, and the channels of callers to it."""

    words = f"{WORDS} over gRPC"
    in_pieces = False
    http = "HTTP/2"

    def __init__(
        self, server: Server, address: Address, headers: dict[str, str], secrets: tuple[str, ...]
    ) -> None:
        if server.connections == "new":
            raise PlanError(
                "a channel of gRPC is kept: leave out connections new (--connections), or ask the "
                "server over HTTP"
            )
        if server.insecure:
            raise PlanError(
                "gRPC's client verifies every certificate: leave insecure (--insecure) out, and "
                "name the file of the authority by SSL_CERT_FILE"
            )
        self._server, self._address = server, address
        # names of metadata are in lower case
        self._metadata = tuple((name.lower(), value) for name, value in headers.items())
        self._secrets = secrets
        self._name = address.model or ""
        self._inputs: list[dict[str, Any]] = []
        self._stubs: list[Any] = []
        self.software: str | None = None

    @asynccontextmanager
    async def opened(self, callers: int) -> AsyncIterator[None]:
        """A channel for each caller; they connect with their first requests."""
        async with AsyncExitStack() as stack:
            channels = [await stack.enter_async_context(self._channel()) for _ in range(callers)]
            self._stubs = [service_pb2_grpc.GRPCInferenceServiceStub(one) for one in channels]
            yield

    def _channel(self) -> Any:
        options = options_for(self._server.answer_bytes)
        where = self._address.authority
        if not self._address.tls:
            return grpc.aio.insecure_channel(where, options=options)
        return grpc.aio.secure_channel(where, credentials(), options=options)

    async def meet(self) -> ServerModel | None:
        """Its metadata: names, types and shapes."""
        async with self._channel() as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            asked = service_pb2.ModelMetadataRequest(
                name=self._name, version=self._address.version or ""
            )
            try:
                answer = await stub.ModelMetadata(
                    asked, metadata=self._metadata, timeout=CONNECT_S, wait_for_ready=True
                )
            except grpc.aio.AioRpcError as error:
                if error.code() == grpc.StatusCode.NOT_FOUND:
                    raise PlanError(
                        f"the server has no model {self._name}: {self._failure_of(error)}"
                    ) from None
                if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                    return None
                raise PlanError(
                    f"{self._address.authority} does not answer over gRPC (is it http:// there?): "
                    f"{self._failure_of(error)}"
                ) from None
        found = MessageToDict(answer, preserving_proto_field_name=True)
        self._inputs = [dict(known) for known in found.get("inputs", ())]
        return model_of(found, self._name)

    def request(self, number: int, one: CallInput) -> tuple[Any, int | None]:
        """The message for an input, and how many samples it has."""
        arrays = arrays_of(number, one, self._inputs)
        message = service_pb2.ModelInferRequest(
            model_name=self._name, model_version=self._address.version or ""
        )
        for name, kind, array in arrays:
            message.inputs.add(name=name, datatype=kind, shape=array.shape)
            raw = serialize_byte_tensor(array).item() if kind == "BYTES" else array.tobytes()
            message.raw_input_contents.append(raw)
        return message, items_in(arrays, one)

    def call(self, caller: int, message: Any) -> Callable[[], Awaitable[Any]]:
        """What sends a message, and returns the answer when that is there."""
        infer, metadata = self._stubs[caller].ModelInfer, self._metadata

        async def call() -> Any:
            try:
                answer = await infer(message, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                raise self._failure_of(error) from None
            check_whole(answer)
            return answer

        return call

    async def first(self, message: Any) -> None:
        """Send a message alone, and read all of its answer."""
        await self.alone(message)

    async def alone(self, message: Any) -> Any:
        """The outputs of one message, sent by a channel of its own."""
        async with self._channel() as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            try:
                return self.read(await stub.ModelInfer(message, metadata=self._metadata))
            except grpc.aio.AioRpcError as error:
                raise self._failure_of(error) from None

    @staticmethod
    def read(answer: Any) -> Any:
        """The outputs by their names."""
        try:
            found = InferResult(answer)
            return {one.name: tensor_of(found.as_numpy(one.name)) for one in answer.outputs}
        except Exception as error:  # noqa: BLE001 - whatever an answer makes of its parser
            raise NoAnswer(f"the outputs cannot be read: {error}") from None

    def _failure_of(self, error: grpc.aio.AioRpcError) -> RemoteFailure:
        code = error.code()
        details = masked(error.details() or "", self._secrets)  # before anything is cut off
        words = " ".join(printable(details).split())[:200]
        text = f"{code.name}: {words}"
        kinds: dict[Any, type[RemoteFailure]] = {
            grpc.StatusCode.RESOURCE_EXHAUSTED: TooManyRequests,
            grpc.StatusCode.UNAVAILABLE: Unavailable,
            grpc.StatusCode.DEADLINE_EXCEEDED: ServerError,  # we set none: it is the server's own
        }
        kind = kinds.get(code, RequestRefused if code in _REFUSED else ServerError)
        for of, said, means in _BY_WORDS:
            if kind is of and said in words:
                kind = means
        found: RemoteFailure = without_secrets(kind(text), self._secrets)
        return found

    def values_of(self, answer: Any) -> Any:
        """The outputs by their names."""
        return self.read(answer)

    def begin(self) -> None:
        """Nothing: gRPC's client does not tell of its connections."""

    @staticmethod
    def seen(reached: Reached | None) -> ServerSeen:
        """What connecting took; gRPC's client does not tell of connections in the run."""
        return ServerSeen(reached=reached)
