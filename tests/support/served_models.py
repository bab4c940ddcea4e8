"""Small models behind servers of the protocols that are spoken: what pages and tests ask."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from support.scripted_server import Asked, chat_of, serving

FLOATS = [{"name": "x", "datatype": "FP32", "shape": [-1, -1]}]
IDS = [{"name": name, "datatype": "INT64", "shape": [-1, -1]} for name in
       ("input_ids", "attention_mask")]  # fmt: skip
_CHAT = chat_of(["a", "b", "c"])


def every_protocol(inputs):
    """Answers v2 with the sum of its first tensor, OpenAI's chat, and any other POST.

    ``inputs``: what the metadata of v2 tells.
    """

    async def script(asked: Asked) -> None:
        if asked.path.startswith("/v1/"):
            await _CHAT(asked)
        elif not asked.path.startswith("/v2/models/"):
            await asked.answer({"embedding": [1.0, 2.0]})
        elif asked.method == "GET":
            await asked.answer({"name": "minilm", "versions": ["1"], "inputs": inputs})
        else:
            await _infer(asked)

    return script


async def _infer(asked: Asked) -> None:
    length = int(asked.headers["inference-header-content-length"])
    first = json.loads(asked.body[:length])["inputs"][0]
    dtype = {"FP32": np.float32, "INT64": np.int64}[first["datatype"]]
    size = first["parameters"]["binary_data_size"]
    found = np.frombuffer(asked.body[length : length + size], dtype)
    values = np.array([found.sum()], np.float32)
    tensor = {"name": "sum", "datatype": "FP32", "shape": [1]}
    tensor["parameters"] = {"binary_data_size": values.nbytes}
    head = json.dumps({"model_name": "minilm", "outputs": [tensor]}).encode()
    await asked.answer(
        head + values.tobytes(),
        kind="application/octet-stream",
        headers=[("Inference-Header-Content-Length", len(head))],
    )


class _Summing(service_pb2_grpc.GRPCInferenceServiceServicer):
    """A model ``minilm`` over gRPC; ``refuse`` makes a status of a number of its calls."""

    def __init__(self, inputs, refuse) -> None:
        self.inputs, self.refuse, self.calls = inputs, refuse, 0
        self.metadata: list[dict[str, str]] = []

    def ModelMetadata(self, request, context):  # noqa: N802 - gRPC's
        if request.name != "minilm":
            context.abort(grpc.StatusCode.NOT_FOUND, f"no model {request.name}")
        told = [service_pb2.ModelMetadataResponse.TensorMetadata(**one) for one in self.inputs]
        return service_pb2.ModelMetadataResponse(name="minilm", versions=["1"], inputs=told)

    def ModelInfer(self, request, context):  # noqa: N802 - gRPC's
        self.calls += 1
        self.metadata.append(dict(context.invocation_metadata()))
        code = self.refuse(self.calls)
        if code is not None:
            context.abort(code, "not now")
        dtype = {"FP32": np.float32, "INT64": np.int64}[request.inputs[0].datatype]
        total = np.array([np.frombuffer(request.raw_input_contents[0], dtype).sum()], np.float32)
        answer = service_pb2.ModelInferResponse(model_name="minilm")
        answer.outputs.add(name="sum", datatype="FP32", shape=[1])
        answer.raw_output_contents.append(total.tobytes())
        return answer


@contextmanager
def serving_grpc(inputs=FLOATS, refuse=lambda _: None, port=0):
    """The model over gRPC until the block ends: its port, and what it was asked."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    model = _Summing(inputs, refuse)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(model, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield port, model
    finally:
        server.stop(None).wait()


@contextmanager
def served(run: list[str]) -> Iterator[list[str]]:
    """The command with servers of ours at its URLs."""
    if not any("://127.0.0.1:" in word for word in run):
        yield run
        return
    inputs = IDS if any("input_ids" in word for word in run) else FLOATS
    with serving(every_protocol(inputs)) as server, serving_grpc(inputs) as (port, _):
        origins = {"http": server.origin, "grpc": f"grpc://127.0.0.1:{port}"}
        yield [
            re.sub(r"(http|grpc)://127\.0\.0\.1:\d+", lambda found: origins[found[1]], word)
            for word in run
        ]
