"""Requests called in batches on a device: gathered on it, or on the host and copied there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import inferload as il
from support.on_device import EXECUTORS

pytestmark = pytest.mark.native
PAUSE_NS = 500_000


def batched(executor: str, inputs: list, batching: dict[str, object], **options) -> il.RunResult:
    from support import simulated_models

    model = simulated_models.Busy(PAUSE_NS).eval()
    given = {"calls": 300, "warmup": "fixed", "warmup_calls": 2, "verify": True} | options
    with torch.no_grad():
        return il.run(
            torch.jit.script(model) if executor == "native" else model,
            inputs,
            load=il.OpenLoop.poisson(rate_per_s=3000, callers=2),
            batching=il.Batching(max_batch=8, max_delay_s=0.002, **batching),
            executor=executor,
            device="sim:0",
            **given,
        )


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("transfers", [False, True])
def test_each_request_gets_what_it_would_get_alone(sim, executor: str, transfers: bool):
    inputs = [torch.randn(1, 4) for _ in range(5)]
    result = batched(executor, inputs, {}, transfers=transfers)
    assert result.verification.compared > 20
    assert not result.verification.differing
    log, number = result.log, result.log.batches["batch"]
    assert set(log.stages) >= {"issue_ns", "device_ns", "gather_ns", "hold_ns", "late_ns"}
    assert ("copy_in_ns" in log.stages) == transfers
    for one in np.unique(number):
        for name in ("issue_ns", "device_ns", "gather_ns"):
            assert len(set(log.stages[name][number == one].tolist())) == 1
    assert (log.stages["device_ns"] >= PAUSE_NS - 1000).sum() > 0
    assert result.summary.batches.device_ms.min >= (PAUSE_NS - 1000) / 1e6
    assert result.summary.batches.mean_size > 1.5


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("transfers", [False, True])
def test_inputs_are_padded_and_filled_up_there_as_well(sim, executor: str, transfers: bool):
    inputs = [torch.randn(1, length, 3) for length in (2, 5, 7)]
    batching = {"pad": 0, "sizes_allowed": (1, 4, 8)}
    result = batched(executor, inputs, batching, transfers=transfers)
    assert result.verification.compared > 20
    assert not result.verification.differing
    assert result.summary.batches.padding_fraction > 0.05
