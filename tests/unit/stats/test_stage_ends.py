"""Stages that a run did not come to the end of, and limits that end one."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

import inferload as il
from inferload.report.text.run import plain_report
from inferload.stats.limits.limit import limits_given
from inferload.stats.load_stages import load_stages
from inferload.stats.stopping import StopAtBroken
from support.virtual_time import simulated

MS = 1_000_000


def run(stages, **options) -> il.RunResult:
    """One caller, which serves 200/s; calls that wait at the end are given up at once."""
    load = il.OpenLoop.staged(stages, arrivals="constant", drain_s=options.pop("drain_s", 0.0))
    return simulated(5 * MS, load, warmup=None, **options)


def test_calls_that_were_never_made_were_due_and_waited_all_the_same():
    slow, fast = il.Stage(rate_per_s=100, duration_s=5), il.Stage(rate_per_s=400, duration_s=5)
    after = il.Stage(rate_per_s=20, duration_s=1)
    first, second, third = run([slow, fast, after]).load_stages
    assert second.due_calls == 2000
    # 1,000 of them were still waiting when the third stage began, and 800 when it ended
    assert third.waiting_calls == pytest.approx(1000, abs=2)
    assert second.unfinished_calls + third.unfinished_calls == pytest.approx(820, abs=2)
    assert second.overload.asked_per_s == pytest.approx(400, rel=0.01)
    assert second.overload.served_per_s == pytest.approx(200, rel=0.01)
    assert first.overload is None


def test_a_queue_that_grows_on_the_way_down_and_is_gone_at_the_end_is_told():
    down = il.Stage(rate_per_s=350, to_per_s=20, duration_s=6)
    result = run([down])
    (stage,) = result.load_stages
    assert stage.overload is not None
    assert stage.response_ms.not_quoted == "overloaded"
    assert "grew" in plain_report(result)
    (kept,) = run([il.Stage(rate_per_s=190, to_per_s=20, duration_s=6)]).load_stages
    assert kept.overload is None


def test_a_thousand_stages_are_looked_through_in_the_time_of_their_calls():
    """As much is looked at as one stage has: a log of ten times the stages takes ten times."""
    looked = []

    stages = [il.Stage(rate_per_s=50, duration_s=1)] * 200
    log = run(stages).log
    due = np.sort(log.scheduled_ns)
    rows = il.CallLog.rows

    def counting(self, places):
        found = rows(self, places)
        looked.append(len(found))
        return found

    il.CallLog.rows = counting
    try:
        assert len(load_stages(log, stages, due, 200.0)) == 200
    finally:
        il.CallLog.rows = rows
    assert sum(looked) < 10 * len(log)


def watched(finished_s: np.ndarray, response_s: float, *texts: str) -> StopAtBroken:
    """Shown calls of one response time as they finish, every tenth."""
    ns = (finished_s * 1e9).astype(np.int64)
    took = np.full(len(ns), int(response_s * 1e9))
    zeros = np.zeros(len(ns), np.int32)
    log = il.CallLog(
        scheduled_ns=ns - took, started_ns=ns - took, finished_ns=ns, caller=zeros, input=zeros,
        error=zeros - 1, open_loop=True,
    )  # fmt: skip
    rule = StopAtBroken(limits_given(texts), cut=False)
    for calls in range(10, len(ns) + 1, 10):
        if calls >= rule.next_calls and rule.enough(log.rows(slice(0, calls)), calls):
            break
    return rule


def test_slow_calls_that_are_all_over_a_limit_end_the_run_within_some_tens():
    ends = np.arange(1, 400) / 5.0  # five a second
    ((limit, (when_s, _)),) = watched(ends, 0.05, "p99<=5ms").broken.items()
    assert limit == "p99<=5ms"
    assert when_s <= 20
    assert watched(ends, 0.05, "p99<=80ms").broken == {}


def test_the_same_few_of_fast_calls_may_be_a_slow_start_and_end_nothing():
    ends = np.arange(1, 390) / 500.0
    assert watched(ends, 0.05, "p99<=5ms").broken == {}


def test_a_run_that_its_limit_ends_does_not_wait_for_what_is_queued():
    result = il.run(
        lambda _: time.sleep(0.002),
        [torch.zeros(1)],
        load=il.OpenLoop.constant(2000, callers=1),
        duration_s=60,
        limit="p99<=50ms",
        warmup_calls=1,
    )
    (verdict,) = result.limits
    assert verdict.verdict == "broken"
    assert result.summary.unfinished_calls > 0
    # the call in flight is finished, and no other: whoever looks may be late
    after = result.log.started_ns / 1e9 > verdict.broken_at_s + 5.0
    assert not after.any()
