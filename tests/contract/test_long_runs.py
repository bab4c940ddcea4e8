"""Runs of more calls than are kept raw."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import inferload as il
from support import models
from support.gates import end_after

BOTH = ["threads", pytest.param("native", marks=pytest.mark.native)]


@pytest.fixture
def small_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inferload.log.ring.KEPT_CALLS", 8192)
    monkeypatch.setattr("inferload.log.tally.SAMPLED_CALLS", 3000)


@pytest.mark.usefixtures("small_log")
@pytest.mark.parametrize("executor", BOTH)
@pytest.mark.parametrize(
    "load", [il.ClosedLoop(callers=3), il.OpenLoop.constant(1e5, callers=2)], ids=str
)
def test_a_long_run_counts_every_call_in_bounded_space(executor, load):
    calls = 100_000
    model = models.NoOp()
    result = il.run(
        torch.jit.script(model) if executor == "native" else model,
        [torch.zeros(n) for n in (1, 2, 3, 4)],
        load=load,
        calls=calls,
        executor=executor,
    )
    summary, log = result.summary, result.log
    assert log.tally.calls == summary.completed_calls == calls
    # the order of inputs is one shuffled deck after another
    assert log.tally.returned_by_input.sum(axis=0).tolist() == [calls // 4] * 4
    assert len(log) <= 3000
    assert result.set_up.log_bytes <= 8192 * 36
    assert summary.response_ms.counted
    assert summary.response_ms.count == calls
    response = summary.response_ms
    # callers that do not keep up with the rate on a busy machine have none to quote, and then
    # nothing is said of how quantiles were counted
    assert response.p99 is not None or response.more_calls or response.not_quoted
    assert ("counts of all calls" in str(result)) == (response.not_quoted is None)
    assert summary.throughput_calls_per_s.value == pytest.approx(calls / summary.duration_s)
    if isinstance(load, il.OpenLoop):
        assert np.isin(log.scheduled_ns, load.schedule(calls, None).times_ns).all()
        assert summary.lateness_ms.count == calls
    else:
        assert summary.service_ms == summary.response_ms


@pytest.mark.usefixtures("small_log")
def test_a_run_that_fits_is_kept_raw():
    result = il.run(models.NoOp(), [torch.zeros(1)], calls=8192)
    assert result.log.tally is None
    assert len(result.log) == 8192


@pytest.mark.usefixtures("small_log")
def test_failed_calls_of_a_long_run_are_counted_apart():
    def sometimes(x):
        if x.numel() == 2:
            raise ValueError("two")

    result = il.run(sometimes, [torch.zeros(1), torch.zeros(2)], calls=40_000, on_error="record")
    assert (result.summary.completed_calls, result.summary.failed_calls) == (20_000, 20_000)
    assert "20,000 of 40,000 calls failed" in str(result)


@pytest.mark.usefixtures("small_log")
def test_a_run_of_open_end_goes_on_past_what_is_kept(monkeypatch: pytest.MonkeyPatch):
    options = end_after(8193, monkeypatch)
    result = il.run(models.NoOp(), [torch.zeros(1)], **options)
    assert result.log.calls_made > 8192
    assert result.log.tally.calls >= result.summary.completed_calls
