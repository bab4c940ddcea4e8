"""One rule for what calls certify, whoever asks."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import inferload as il
from inferload.stats.durations import RawDurations
from inferload.stats.limits.certificates import certificate_of
from inferload.stats.limits.judging import judged_limits
from inferload.stats.limits.limit import Limit
from inferload.stats.summary import summarize
from support.queueing import log_of, simulated_queue

CALLS_WITHOUT_ONE_OVER = [("p90", 44), ("p99", 459), ("p999", 4603)]


def result_of(service_ms: np.ndarray):
    finished = np.cumsum(service_ms) / 1e3
    log = replace(
        log_of(finished - service_ms / 1e3, finished - service_ms / 1e3, finished), open_loop=False
    )
    return SimpleNamespace(log=log, summary=summarize(log, (1,)))


@pytest.mark.parametrize(("quantile", "calls"), CALLS_WITHOUT_ONE_OVER)
def test_so_many_calls_under_a_limit_certify_it_and_one_fewer_does_not(quantile, calls):
    # MLPerf's early stopping: t = 0 needs 44, 459 and 4,603 calls at p90, p99 and p99.9
    limit = Limit(figure=quantile, bound=20.0)
    for count in (calls - 1, calls):
        result = result_of(np.full(count, 10.0))
        found = il.certificate(result, quantile, 20.0)
        assert (found.needed_calls, found.certified) == (calls, count == calls)
        (judged,) = judged_limits(result.log, [limit])
        assert (judged.verdict == "kept") == found.certified
        assert judged.calls_missing == calls - count


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    calls=st.integers(1, 3000),
    stretch=st.integers(1, 100),
    share=st.floats(0, 0.05),
    figure=st.sampled_from(["p50", "p90", "p99"]),
)
def test_a_certificate_and_a_limit_never_differ(seed, calls, stretch, share, figure):
    # slow calls come alone or in stretches, so that they count for less than as many calls
    slow = np.repeat(np.random.default_rng(seed).random(calls // stretch + 1) < share, stretch)
    result = result_of(np.where(slow[:calls], 30.0, 10.0))
    found = il.certificate(result, figure, 20.0)
    (judged,) = judged_limits(result.log, [Limit(figure=figure, bound=20.0)])
    assert (judged.verdict == "kept") == found.certified
    assert judged.independent_calls == pytest.approx(found.calls / found.calls_worth_one)


def test_slow_calls_in_stretches_longer_than_a_batch_are_seen_as_such():
    # 800 calls make batches of 20: a stretch of 40 slow ones is two of them, which look like two
    over = np.zeros(800, bool)
    over[400:440] = True
    durations = RawDurations.of(np.where(over, 30, 10).astype(np.int64) * 1_000_000)
    assert certificate_of(durations, 0.9, 20.0).calls_worth_one > 30


def test_a_run_whose_queue_grew_certifies_nothing():
    log = simulated_queue(np.arange(5000) / 250, np.full(5000, 5e-3), 1)
    result = SimpleNamespace(log=log, summary=summarize(log, (1,)))
    found = il.certificate(result, "p99", 60_000.0)
    assert (found.certified, found.overloaded) == (False, True)


def test_calls_of_which_none_returned_certify_nothing():
    result = result_of(np.full(10, 1.0))
    log = replace(result.log, error=np.zeros(10, np.int32))
    lost = SimpleNamespace(log=log, summary=summarize(log, (1,)))
    assert not il.certificate(lost, "p50", 1e6).certified
