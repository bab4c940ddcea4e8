"""Batches on a real GPU: gathered there, copied there, and replayed from graphs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import inferload as il
from inferload.targets.forms import as_form

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.native,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
EXECUTORS = ("threads", "native")


def linears() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(*[torch.nn.Linear(256, 256) for _ in range(4)]).eval().cuda()


class Mean(torch.nn.Module):
    """Of places that are no padding."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return (x * mask.unsqueeze(2)).sum(1) / mask.sum(1, keepdim=True)


def batched(model: object, inputs: list, *, executor: str, **options) -> il.RunResult:
    asked = {"max_batch": 16, "max_delay_s": 0.001} | options.pop("batching", {})
    with torch.no_grad():
        return il.run(
            model,
            inputs,
            load=il.OpenLoop.poisson(rate_per_s=8000, callers=2),
            batching=il.Batching(**asked),
            calls=2000,
            verify=True,
            executor=executor,
            **options,
        )


def check(result: il.RunResult) -> None:
    assert result.verification.compared > 50
    assert not result.verification.differing
    log = result.log
    for number in np.unique(log.batches["batch"])[:100]:
        own = log.batches["batch"] == number
        assert len(set(log.started_ns[own].tolist())) == 1
        assert own.sum() == log.batches["batch_size"][own][0]
    assert result.summary.batches.mean_size > 1.5


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("transfers", [False, True])
@pytest.mark.parametrize("form", ["eager", "cudagraph"])
def test_each_request_gets_what_it_would_get_alone(executor: str, transfers: bool, form: str):
    model: object = linears()
    if form == "cudagraph":
        model = as_form(model, form, [])
    elif executor == "native":
        model = torch.jit.script(model)
    inputs = [torch.randn(1, 256, device="cuda") for _ in range(5)]
    result = batched(model, inputs, executor=executor, transfers=transfers)
    check(result)
    if form == "cudagraph":
        assert result.spec.batching.sizes_allowed == (1, 2, 4, 8, 16)


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("transfers", [False, True])
def test_unequal_inputs_are_padded(executor: str, transfers: bool):
    model = torch.jit.script(Mean()) if executor == "native" else Mean()
    inputs = [
        (torch.randn(1, length, 8, device="cuda"), torch.ones(1, length, device="cuda"))
        for length in (3, 9, 17)
    ]
    result = batched(model, inputs, executor=executor, transfers=transfers, batching={"pad": 0})
    check(result)
    assert result.summary.batches.padding_fraction > 0.05


def test_packages_take_batches():
    inputs = [torch.randn(1, 256, device="cuda") for _ in range(3)]
    with torch.no_grad():
        result = il.run(
            linears(),
            inputs,
            form="aoti",
            load=il.OpenLoop.poisson(rate_per_s=8000, callers=2),
            batching=il.Batching(max_batch=16, max_delay_s=0.001),
            calls=2000,
            verify=True,
        )
    check(result)
    assert result.spec.executor == "native"
