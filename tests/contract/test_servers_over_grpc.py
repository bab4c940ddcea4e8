"""The Open Inference Protocol over gRPC."""

from __future__ import annotations

import grpc
import pytest
import torch

import inferload as il
from support.served_models import FLOATS, serving_grpc

INPUTS = [{"x": torch.ones(2, 3)}, {"x": torch.zeros(2, 3)}]


def test_a_model_is_asked_over_grpc():
    with serving_grpc() as (port, model):
        target = il.Server(f"grpc://127.0.0.1:{port}/minilm", headers={"X-Tenant": "a"})
        result = il.run(
            target, INPUTS, load=il.ClosedLoop(callers=2), calls=40, verify=True, warmup_calls=2
        )
    assert result.summary.completed_calls == 40
    assert model.calls >= 40 + 2 * 2 + 1
    assert all(one["x-tenant"] == "a" for one in model.metadata)
    assert result.spec.items_per_input == (2, 2)
    assert result.spec.servers[0].http == "HTTP/2"
    assert result.spec.servers[0].model.inputs == ("x: FP32 [-1, -1]",)
    assert result.verification is not None
    assert result.verification.differing == 0 < result.verification.compared


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "TooManyRequests"),
        (grpc.StatusCode.UNAVAILABLE, "Unavailable"),
        (grpc.StatusCode.INTERNAL, "ServerError"),
        (grpc.StatusCode.INVALID_ARGUMENT, "RequestRefused"),
    ],
)
def test_codes_are_failures_by_their_class(code, kind):
    with serving_grpc(refuse=lambda call: code if call > 15 else None) as (port, _):
        url = f"grpc://127.0.0.1:{port}/minilm"
        result = il.run(url, INPUTS, calls=20)
    assert [one.type for one in result.failures] == [kind]
    assert result.failures[0].example == f"{code.name}: not now"
    assert result.summary.completed_calls + result.failures[0].calls == 20


def test_a_server_that_ends_fails_calls_and_not_the_run():
    with serving_grpc() as (port, model):

        def end(call: int):
            return grpc.StatusCode.UNAVAILABLE if call > 30 else None

        model.refuse = end
        load = il.OpenLoop.constant(rate_per_s=100, callers=2)
        result = il.run(f"grpc://127.0.0.1:{port}/minilm", INPUTS, load=load, calls=50)
    assert result.status == "complete"
    assert {one.type for one in result.failures} == {"Unavailable"}
    assert len(result.log) == 50


@pytest.mark.parametrize(
    ("path", "inputs", "says"),
    [
        ("other", INPUTS, "no model other"),
        ("minilm", [{"y": torch.ones(1)}], "the model takes x"),
        ("minilm", [torch.ones(1, 1).double()], "x is FP64, and the server takes FP32"),
    ],
)
def test_what_the_server_does_not_have_is_told_first(path, inputs, says):
    with serving_grpc(FLOATS) as (port, model), pytest.raises(il.PlanError, match=says):
        il.run(f"grpc://127.0.0.1:{port}/{path}", inputs)
    assert not model.calls


@pytest.mark.parametrize(
    ("given", "says"),
    [({"connections": "new"}, "leave out connections new"),
     ({"insecure": True}, "grpc:// has none"),
     ({"body": {}}, "leave body")],
)  # fmt: skip
def test_what_grpc_does_not_do_is_refused(given, says):
    with pytest.raises(il.PlanError, match=says):
        il.run(il.Server("grpc://127.0.0.1:1/minilm", **given), INPUTS)
