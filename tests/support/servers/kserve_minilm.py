"""KServe's model server with MiniLM behind the Open Inference Protocol v2, over HTTP and gRPC.

    python kserve_minilm.py PORT GRPC_PORT

``input_ids`` and ``attention_mask``, INT64 [batch, tokens], give ``embedding``, FP32 [batch, 384].
"""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

import kserve.model_server
import torch
from embedder import model
from grpc import aio
from kserve import InferInput, InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.errors import InvalidInput
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import (
    add_GRPCInferenceServiceServicer_to_server,
)
from kserve.protocol.grpc.interceptors import ExceptionToStatusInterceptor
from kserve.protocol.grpc.servicer import InferenceServicer

INPUTS = ("input_ids", "attention_mask")


class MiniLM(Model):
    def __init__(self) -> None:
        super().__init__("minilm")
        # calls are served one after another, and the event loop is free meanwhile
        self._one = ThreadPoolExecutor(max_workers=1)
        self._model = model()
        self.ready = True

    def get_input_types(self) -> list[dict]:
        return [{"name": name, "datatype": "INT64", "shape": [-1, -1]} for name in INPUTS]

    def get_output_types(self) -> list[dict]:
        return [{"name": "embedding", "datatype": "FP32", "shape": [-1, 384]}]

    async def predict(self, payload: InferRequest, headers=None, response_headers=None):
        given = {one.name: one for one in payload.inputs}
        tensors = [_tensor(given, name) for name in INPUTS]
        ids, mask = (list(one.shape) for one in tensors)
        if ids != mask:
            raise InvalidInput(f"input_ids {ids} and attention_mask {mask} differ in shape")
        loop = asyncio.get_running_loop()
        embedding = await loop.run_in_executor(self._one, self._embedding, tensors)
        output = InferOutput("embedding", list(embedding.shape), "FP32")
        output.set_data_from_numpy(embedding, binary_data=True)
        return InferResponse(
            response_id=payload.id or "",
            model_name=self.name,
            infer_outputs=[output],
            from_grpc=payload.from_grpc,
            use_binary_outputs=payload.use_binary_outputs,
            requested_outputs=payload.request_outputs,
        )

    def _embedding(self, tensors: list[torch.Tensor]):
        with torch.inference_mode():
            return self._model(*tensors).numpy()


def _tensor(given: dict[str, InferInput], name: str) -> torch.Tensor:
    if name not in given:
        raise InvalidInput(f"input '{name}' is missing")
    if given[name].datatype != "INT64":
        raise InvalidInput(f"input '{name}' must be INT64, got {given[name].datatype}")
    return torch.from_numpy(given[name].as_numpy().copy())


# KServe has no option for its address, and listens to the world.
class LoopbackREST(kserve.model_server.RESTServer):
    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.config.host = "127.0.0.1"


class LoopbackGRPC(kserve.model_server.GRPCServer):
    async def start(self, max_workers: int) -> None:  # KServe's own, but for the address
        self._server = aio.server(
            ThreadPoolExecutor(max_workers=max_workers),
            interceptors=(ExceptionToStatusInterceptor(),),
        )
        add_GRPCInferenceServiceServicer_to_server(
            InferenceServicer(self._data_plane, self._model_repository_extension), self._server
        )
        self._server.add_insecure_port(f"127.0.0.1:{self._port}")
        await self._server.start()
        await self._server.wait_for_termination()


if __name__ == "__main__":
    kserve.model_server.RESTServer = LoopbackREST
    kserve.model_server.GRPCServer = LoopbackGRPC
    port, grpc_port = map(int, sys.argv[1:])
    ModelServer(http_port=port, grpc_port=grpc_port, workers=1).start([MiniLM()])
