from __future__ import annotations

import numpy as np
import pytest

from inferload.log.calls import CallLog
from inferload.log.tally import Tally
from inferload.report.charts.series import percentile_curve, slowest, strips, timeline
from inferload.stats.durations import RawDurations
from inferload.stats.summary import distribution_ms


def log_of(started_s, service_ms, caller=0, failed=()) -> CallLog:
    started = np.round(np.asarray(started_s) * 1e9).astype(np.int64)
    service = np.round(np.broadcast_to(service_ms, started.shape) * 1e6).astype(np.int64)
    error = np.full(len(started), -1, np.int32)
    error[list(failed)] = 0
    return CallLog(
        scheduled_ns=started,
        started_ns=started,
        finished_ns=started + service,
        caller=np.broadcast_to(caller, started.shape).astype(np.int32),
        input=np.zeros(len(started), np.int32),
        error=error,
    )


def test_the_curve_has_the_values_of_their_ranks_and_ends_at_the_largest():
    values = np.random.default_rng(0).permutation(np.arange(1, 10_001)) * 1_000_000
    tails, curve = percentile_curve(distribution_ms(RawDurations.of(values)))
    assert curve[0] == 1
    assert tails[-1] == 20_000
    assert curve[-1] == 10_000
    # where 1 / (1 - q) is 100, so q = 0.99, stands the value of rank 9,900
    for tail, rank in ((2, 5_000), (10, 9_000), (100, 9_900), (1000, 9_990)):
        assert curve[np.argmin(abs(tails - tail))] == rank
    assert (np.diff(tails) > 0).all()
    assert (np.diff(curve) >= 0).all()


def test_the_curve_ends_before_the_calls_that_never_finished():
    finished = RawDurations.of(np.arange(1, 91) * 1_000_000)
    tails, curve = percentile_curve(distribution_ms(finished, 10))
    assert curve[-1] <= 90
    assert tails[-1] <= 10


def test_a_stretch_has_the_quantiles_of_its_own_calls():
    # 10 s, 100 calls a second; those of the fourth second take ten times as long
    started = np.arange(1000) / 100
    slow = (started >= 3) & (started < 4)
    found = timeline(log_of(started, np.where(slow, 9.0, 1.0), failed=[500]))
    assert len(found.calls) == 10
    assert found.calls.sum() == 1000
    assert found.failed.sum() == 1
    assert found.failed[5] == 1
    assert found.p50_ms[3] == 9.0
    assert found.p50_ms[[0, 1, 2, 4, 9]].tolist() == [1.0] * 5
    assert found.max_ms[6] == 1.0
    assert found.width_s == pytest.approx(1.0, rel=0.01)


def test_a_run_that_was_counted_has_the_same_timeline():
    started = np.arange(40_000) / 4000
    log = log_of(started, np.where(started > 5, 4.0, 2.0))
    tally = Tally(1, 1, open_loop=False)
    tally.add(0, log.columns())
    found = timeline(tally.handed_over(()))
    assert found.calls.sum() == 40_000
    assert found.p50_ms[0] == pytest.approx(2.0, rel=1e-3)
    assert found.p50_ms[-1] == pytest.approx(4.0, rel=1e-3)


def test_a_strip_is_a_caller_and_a_cell_the_mean_of_its_calls():
    caller = np.tile([0, 1, 2], 4000)
    log = log_of(np.arange(12_000) / 1000, np.choose(caller, [1.0, 2.0, 3.0]), caller)
    found = strips(log, 3)
    assert found.labels == ("0", "1", "2")
    assert found.calls.sum() == 12_000
    np.testing.assert_allclose(found.mean_ms[2], 3.0)
    np.testing.assert_allclose(found.mean_ms[0], 1.0)


def test_calls_that_failed_are_in_no_strip_and_an_idle_caller_has_an_empty_one():
    log = log_of(
        np.arange(100) / 100, np.where(np.arange(100) % 2, 1.0, 9.0), failed=range(0, 100, 2)
    )
    found = strips(log, 2)
    assert found.labels == ("0", "1")
    np.testing.assert_allclose(found.mean_ms[0][found.calls[0] > 0], 1.0)
    assert found.calls[1].sum() == 0


def test_very_many_callers_share_strips():
    caller = np.arange(1000)
    found = strips(log_of(np.arange(1000) / 1000, 1.0, caller), 1000)
    assert len(found.labels) <= 64
    assert found.labels[0] == "0 to 15"
    assert found.labels[-1] == "992 to 999"
    assert found.calls.sum() == 1000


def test_the_slowest_calls_come_slowest_first_and_failed_ones_are_none():
    log = log_of(np.arange(6), [1.0, 9.0, 3.0, 50.0, 7.0, 2.0], failed=[3])
    assert slowest(log, 3).tolist() == [1, 4, 2]
    assert len(slowest(log, 100)) == 5
    assert slowest(log, 3, from_ns=int(log.finished_ns[2])).tolist() == [4, 5]


def test_series_of_a_run_without_calls_are_nothing():
    empty = log_of([], [])
    assert timeline(empty) is None
    assert strips(empty, 2) is None
