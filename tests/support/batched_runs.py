"""Runs whose requests are called in batches, and what holds for their rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import inferload as il

BOTH = ["threads", pytest.param("native", marks=pytest.mark.native)]


def for_executor(model: torch.nn.Module, executor: str) -> torch.nn.Module:
    return torch.jit.script(model.eval()) if executor == "native" else model.eval()


def batched(
    model, inputs, executor="threads", *, callers=2, rate=3000.0, **options
) -> il.RunResult:
    """A run so fast that requests join, of which every answer is compared with the one alone."""
    given = {"calls": 400, "warmup_calls": 3, "warmup": "fixed", "verify": True}
    given["load"] = il.OpenLoop.poisson(rate_per_s=rate, callers=callers)
    asked = {"max_batch": 8, "max_delay_s": 0.003} | options.pop("batching", {})
    with torch.no_grad():
        return il.run(
            model,
            inputs,
            batching=il.Batching(**asked),
            executor=executor,
            threads_per_call=1,
            **given | options,
        )


def check_rows(log: il.CallLog, max_batch: int) -> None:
    """All requests of a batch began and ended together, after all of them were due."""
    assert (log.started_ns >= log.scheduled_ns).all()
    for number in np.unique(log.batches["batch"]):
        own = log.batches["batch"] == number
        assert own.sum() == log.batches["batch_size"][own][0] <= max_batch
        for column in (log.started_ns, log.finished_ns, log.caller, log.stages["gather_ns"]):
            assert len(set(column[own].tolist())) == 1
    parts = log.instance_ns, log.stages["hold_ns"], log.stages["late_ns"]
    assert all((part >= 0).all() for part in parts)
    assert np.array_equal(sum(parts), log.queue_ns)
    assert (log.stages["gather_ns"] <= log.service_ns).all()
