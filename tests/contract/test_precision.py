"""Runs that go on until their figures are precise, and what ends them otherwise."""

from __future__ import annotations

import models
import pytest
import torch

import inferload as il

BOTH = ["threads", pytest.param("native", marks=pytest.mark.native)]


@pytest.mark.parametrize("executor", BOTH)
def test_a_closed_loop_stops_when_its_figures_are_precise(executor):
    model = models.Sleeps(0.001) if executor == "threads" else torch.jit.script(models.NoOp())
    result = il.run(
        model,
        [torch.zeros(1)],
        precision=0.5,
        quantile="p90",
        time_limit_s=30.0,
        executor=executor,
    )
    summary = result.summary
    assert summary.from_s + summary.duration_s < 25
    p90, rate = summary.response_ms.p90, summary.throughput_calls_per_s
    assert (p90.high - p90.low) / 2 <= 0.5 * p90.value
    assert (rate.high - rate.low) / 2 <= 0.5 * rate.value
    assert p90.confidence == rate.confidence == 0.95
    assert "not-precise" not in [one.code for one in result.warnings]
    assert "until p90 is within 50%" in str(result)


def test_a_run_that_cannot_become_precise_ends_at_its_limit_and_says_so():
    result = il.run(
        models.Sleeps(0.002),
        [torch.zeros(1)],
        precision=0.0001,
        quantile="p999",
        time_limit_s=0.4,
    )
    assert 0.3 < result.log.finished_ns.max() / 1e9 < 5
    message = next(one.message for one in result.warnings if one.code == "not-precise")
    assert "p999 not known" in message


def test_a_certificate_needs_as_many_calls_as_the_bound_says():
    result = il.run(models.Sleeps(0.0005), [torch.zeros(1)], calls=500)
    under = il.certificate(result, "p99", limit_ms=10_000.0)
    assert (under.calls, under.over, under.needed_calls) == (500, 0, 459)
    assert under.certified
    assert not il.certificate(result, "p999", limit_ms=10_000.0).certified
    assert not il.certificate(result, "p99", limit_ms=0.01).certified
    with pytest.raises(ValueError, match="p42"):
        il.certificate(result, "p42", limit_ms=1.0)


def test_duration_runs_cut_their_warm_up_and_others_do_not():
    by_time = il.run(models.NoOp(), [torch.zeros(1)], duration_s=0.2)
    assert by_time.spec.warmup == "auto"
    assert by_time.summary.from_s in {0.0, by_time.steady.cut_s}
    by_count = il.run(models.NoOp(), [torch.zeros(1)], calls=2000)
    assert (by_count.spec.warmup, by_count.summary.from_s) == ("fixed", 0.0)
    assert len(by_count.set_up.first_ten_ms) == 10
    assert by_count.set_up.floor_ms > 0
    assert 0 < by_count.summary.littles_law <= 1
