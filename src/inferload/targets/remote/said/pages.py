"""Where servers say what they count: how each of these pages is asked for."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

import grpc
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import service_pb2, service_pb2_grpc

from inferload.plan.server import Server
from inferload.targets.remote.address import Address
from inferload.targets.remote.failures import (
    RemoteFailure,
    of_status,
    without_secrets,
    without_secrets_in,
)
from inferload.targets.remote.grpc_channel import credentials, options_for
from inferload.targets.remote.headers import resolved
from inferload.targets.remote.wire import HttpWire

if TYPE_CHECKING:
    from inferload.records.server import ServerSpec

# As much as twenty thousand lines of metrics take.
_MOST_BYTES = 2 * 2**20


class NotOfferedError(Exception):
    """The server answers, and not with this."""


class Page(Protocol):
    """One page of a server's; ``name``: as a reader would look for it."""

    @property
    def name(self) -> str:
        """See above."""

    async def read(self, limit_s: float) -> Any:
        """What is on it.

        Raises:
            NotOfferedError: the server has no such page.
            RemoteFailure: there is no answer.
        """


@dataclass(frozen=True, slots=True)
class HttpPage:
    """A page over HTTP."""

    server: Server
    path: str

    @property
    def name(self) -> str:
        """Its URL."""
        return f"{Address.of(self.server.url).origin}{self.path}"

    async def read(self, limit_s: float) -> bytes:
        """Its body."""
        del limit_s  # who reads ends it
        address = Address.of(self.server.url)
        headers, secrets = resolved(self.server.header_pairs)
        status, body = await HttpWire(self.server, address, headers, secrets).get(self.path)
        body = without_secrets_in(body, secrets)  # names and labels may repeat them
        if status != 200:
            raise NotOfferedError(str(of_status(status, body)))
        return body


@dataclass(frozen=True, slots=True)
class GrpcStatistics:
    """The statistics of one model over gRPC."""

    server: Server
    model: str
    version: str | None

    @property
    def name(self) -> str:
        """The call that gives them."""
        return f"ModelStatistics of {Address.of(self.server.url).origin}"

    async def read(self, limit_s: float) -> bytes:
        """As JSON, as over HTTP."""
        # not by grpc.aio: the loop of the callers has its channels in another thread
        return await asyncio.to_thread(self._read, limit_s)

    def _read(self, limit_s: float) -> bytes:
        address = Address.of(self.server.url)
        headers, secrets = resolved(self.server.header_pairs)
        options = options_for(self.server.answer_bytes)
        asked = service_pb2.ModelStatisticsRequest(name=self.model, version=self.version or "")
        with (
            grpc.secure_channel(address.authority, credentials(), options=options)
            if address.tls
            else grpc.insecure_channel(address.authority, options=options)
        ) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            try:
                answer = stub.ModelStatistics(
                    asked,
                    metadata=[(name.lower(), value) for name, value in headers.items()],
                    timeout=limit_s,
                )
            except grpc.RpcError as error:
                code = error.code()
                lost = code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
                kind = RemoteFailure if lost else NotOfferedError
                raise without_secrets(kind(f"{code.name}: {error.details()}"), secrets) from None
        return json.dumps(MessageToDict(answer, preserving_proto_field_name=True)).encode()


def metrics_page(spec: ServerSpec) -> Page | None:
    """Metrics for Prometheus; none at a port that gRPC is spoken at."""
    if Address.of(spec.url).protocol == "v2-grpc":
        return None
    # of all models behind one origin the same page
    return HttpPage(_server(spec, Address.of(spec.url).origin), "/metrics")


def statistics_page(spec: ServerSpec) -> Page | None:
    """The statistics of a model in the Open Inference Protocol."""
    address = Address.of(spec.url)
    if address.model is None:
        return None
    if address.protocol == "v2-grpc":
        return GrpcStatistics(_server(spec, spec.url), address.model, address.version)
    version = f"/versions/{quote(address.version)}" if address.version else ""
    name = quote(address.model, safe="")
    path = f"{address.base}/v2/models/{name}{version}/stats"
    return HttpPage(_server(spec, address.origin), path)


def _server(spec: ServerSpec, url: str) -> Server:
    return Server(url, headers=spec.headers, insecure=spec.insecure, answer_bytes=_MOST_BYTES)
