"""Runs that go on until their figures are precise, and what ends them otherwise."""

from __future__ import annotations

import re
import threading
import time

import numpy as np
import pytest
import torch

import inferload as il
from inferload.log.calls import CallLog
from inferload.records.distribution import half_width_fraction
from inferload.runs.watcher import Watcher
from inferload.stats import stopping
from inferload.stats.stopping import StopByPrecision
from support import models
from support.virtual_time import simulated

BOTH = ["threads", pytest.param("native", marks=pytest.mark.native)]


def half_widths(result: il.RunResult, quantile: str) -> list[float | None]:
    summary = result.summary
    found = getattr(summary.response_ms, quantile), summary.throughput_calls_per_s
    return [half_width_fraction(one) for one in found]


@pytest.mark.parametrize("executor", BOTH)
def test_a_closed_loop_ends_when_the_rule_says_so_and_tells_whether_it_still_is_precise(
    executor, monkeypatch
):
    # at any width: how even the calls are is the machine's
    monkeypatch.setattr(stopping, "SHARE", 1e9)
    model = models.asking(lambda _: time.sleep(0.001))
    result = il.run(
        torch.jit.script(model) if executor == "native" else model,
        [torch.zeros(1)],
        precision=0.5,
        quantile="p90",
        time_limit_s=300.0,
        executor=executor,
    )
    summary = result.summary
    assert summary.from_s + summary.duration_s < 250
    p90, rate = summary.response_ms.p90, summary.throughput_calls_per_s
    assert rate.confidence == 0.95
    assert p90 is None or p90.confidence == 0.95
    widths = half_widths(result, "p90")
    precise = all(width is not None and width <= 0.5 for width in widths)
    told = [one.message for one in result.warnings if one.code == "not-precise"]
    assert len(told) == (not precise)
    assert all("the last calls of its callers widened them" in one for one in told)
    assert "until p90 is within 50%" in str(result)


def by_precision(load: il.ClosedLoop | il.OpenLoop, last_ms: int) -> il.RunResult:
    """Calls that take 1 ms of a simulated clock, until half an interval is within 20 %.

    Call 4,000 takes ``last_ms`` more and then waits until the run was ended by the 4,000 that had
    finished before it, however long it takes to notice.
    """
    ended, made = threading.Event(), iter(range(10**6))
    end, enough = Watcher.end, StopByPrecision.enough

    def told(self):
        end(self)
        ended.set()

    def target(clock):
        def call(_):
            clock.sleep(1_000_000)
            if next(made) == 4000:
                clock.sleep(last_ms * 1_000_000)
                assert ended.wait(120)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Watcher, "end", told)
        patch.setattr(
            StopByPrecision,
            "enough",
            lambda self, log, finished: finished >= 4000 and enough(self, log, finished),
        )
        return simulated(target, load, precision=0.2, quantile="p50", time_limit_s=60.0)


@pytest.mark.parametrize(
    "load", [il.ClosedLoop(), il.OpenLoop.poisson(400, seed=2)], ids=["closed", "open"]
)
def test_a_run_that_was_precise_when_it_ended_and_still_is_says_nothing(load):
    result = by_precision(load, last_ms=0)
    assert 4000 < len(result.log) < 4010  # of 24,000 calls of the open loop, 60,000 of the closed
    assert result.summary.unfinished_calls == 0
    assert max(half_widths(result, "p50")) <= 0.2
    assert "not-precise" not in [one.code for one in result.warnings]


def test_a_run_whose_last_calls_made_it_wider_than_asked_says_so_with_both_widths():
    result = by_precision(il.OpenLoop.poisson(400, seed=2), last_ms=6000)
    # what was due in the 6 s waits for them, and is drained
    assert 6200 < len(result.log) < 6600
    assert result.summary.unfinished_calls == 0
    quantile, rate = half_widths(result, "p50")
    assert quantile is None or quantile > 0.2 or rate > 0.2
    (told,) = [one for one in result.warnings if one.code == "not-precise"]
    then = re.search(r"they were \(p50 \+/- ([\d.]+)%, throughput \+/- ([\d.]+)%\)", told.message)
    assert max(map(float, then.groups())) <= 18.0
    assert "and the calls still due widened them" in told.message
    assert "the calls still due widened them" in " ".join(str(result).split())


def test_a_run_that_cannot_become_precise_ends_at_its_limit_and_says_so():
    result = il.run(
        models.Sleeps(0.002),
        [torch.zeros(1)],
        precision=0.0001,
        quantile="p999",
        time_limit_s=0.4,
    )
    # not before, and no call begins later: the caller may lose its core after a look at the clock
    assert result.log.finished_ns.max() >= 0.4e9
    assert np.count_nonzero(result.log.started_ns > 0.4e9) <= 1
    (told,) = [one for one in result.warnings if one.code == "not-precise"]
    assert "p999 not known" in told.message
    assert "it was ended because" not in told.message


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
