"""Runs that go on until their figures are precise, and what ends them otherwise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import inferload as il
import models
from inferload.log.calls import CallLog
from inferload.stats.stopping import StopByPrecision

BOTH = ["threads", pytest.param("native", marks=pytest.mark.native)]


@pytest.mark.parametrize("executor", BOTH)
def test_a_closed_loop_stops_when_its_figures_are_precise(executor):
    # calls so short that one descheduling is a thousand of them do not suit a rule about quantiles
    model = models.Sleeps(0.001) if executor == "threads" else torch.jit.script(models.mlp())
    result = il.run(
        model,
        [torch.zeros(64, 8)],
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
    assert (under.calls, under.over) == (500, 0)
    assert under.needed_calls >= 459
    assert under.certified == (under.needed_calls <= 500)
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


def evenly(response_ms: np.ndarray, gaps_ms: np.ndarray) -> CallLog:
    count = len(response_ms)
    scheduled = np.cumsum(gaps_ms * 1e6).astype(np.int64)
    return CallLog(
        scheduled_ns=scheduled,
        started_ns=scheduled + 1,
        finished_ns=scheduled + 1 + (response_ms * 1e6).astype(np.int64),
        caller=np.zeros(count, np.int32),
        input=np.zeros(count, np.int32),
        error=np.full(count, -1, np.int32),
    )


def test_a_run_is_precise_when_quantile_and_throughput_both_are():
    generator = np.random.default_rng(0)
    calm, wide = np.tile([5.0, 5.1], 1000), generator.exponential(5.0, 2000)
    even, uneven = np.full(2000, 10.0), np.repeat(generator.uniform(1, 30, 40), 50)
    rule = StopByPrecision(0.02, "p90", cut=False)
    assert rule.enough(evenly(calm, even), 2000)
    assert not rule.enough(evenly(wide, even), 2000)
    assert not rule.enough(evenly(calm, uneven), 2000)
    # the same calls suffice for less
    assert StopByPrecision(0.2, "p90", cut=False).enough(evenly(wide, even), 2000)


def test_precision_is_asked_about_no_more_often_than_every_tenth_of_the_calls():
    rule = StopByPrecision(0.02, "p99", cut=False)
    assert rule.next_calls == 1000
    rule.enough(evenly(np.full(2000, 5.0), np.full(2000, 10.0)), 2000)
    assert rule.next_calls == 2200
