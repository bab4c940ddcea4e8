"""What servers count themselves, asked over gRPC."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

import inferload as il
from support.counting_server import Counting


class GrpcModel(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Counts as :class:`Counting`, over gRPC."""

    def __init__(self, counts: Counting, *, offered: bool) -> None:
        self.counts, self.offered = counts, offered

    def ModelMetadata(self, request, context):  # noqa: N802 - the protocol names them
        tensor = {"name": "x", "datatype": "FP32", "shape": [-1, 2]}
        return pb.ModelMetadataResponse(name="m", inputs=[tensor])

    def ModelInfer(self, request, context):  # noqa: N802
        self.counts.note()
        answer = pb.ModelInferResponse(model_name="m")
        answer.outputs.add(name="y", datatype="FP32", shape=[1])
        answer.raw_output_contents.append(b"\0\0\0\0")
        return answer

    def ModelStatistics(self, request, context):  # noqa: N802
        if not self.offered:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "no such method")
        assert request.name == "m"
        return pb.ModelStatisticsResponse(**self.counts.stats())


@pytest.mark.parametrize("offered", [True, False])
def test_statistics_come_over_grpc_too(offered):
    server = grpc.server(ThreadPoolExecutor(2))
    model = GrpcModel(Counting(), offered=offered)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(model, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        result = il.run(
            f"grpc://127.0.0.1:{port}/m", ["x=1x2:float32"], load=il.ClosedLoop(callers=2), calls=50
        )
    finally:
        server.stop(None)
    assert result.summary.completed_calls == 50
    assert "server-unread" not in {one.code for one in result.warnings}
    if not offered:
        assert result.servers[0].said is None
        return
    said = result.servers[0].said
    assert (said.requests, said.statistics.success.count) == (50, 50)
    assert said.statistics.queue.mean_ms == pytest.approx(2)
