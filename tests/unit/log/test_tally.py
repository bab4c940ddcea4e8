from __future__ import annotations

import itertools

import numpy as np
import pytest

from inferload.log import tally as module
from inferload.log.calls import COLUMNS, CallLog
from inferload.log.tally import Tally, free_since, in_sample
from inferload.log.window_counter import MOST_WINDOWS
from inferload.records.distribution import QUOTED_QUANTILES
from inferload.stats.summary import judged, summarize
from support.virtual_time import replayed


def rows_of(calls: int, *, open_loop: bool) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    scheduled = np.cumsum(generator.exponential(1e6, calls)).astype(np.int64)
    service = generator.gamma(2.0, 4e5, calls).astype(np.int64)
    started, finished = scheduled.copy(), scheduled + service
    if open_loop:
        for row in range(1, calls):
            started[row] = max(scheduled[row], finished[row - 1])
            finished[row] = started[row] + service[row]
    rows = [scheduled, started, finished, np.zeros(calls), generator.integers(0, 3, calls)]
    error = np.where(generator.random(calls) < 0.01, 0, -1)
    return {
        name: values.astype(dtype)
        for (name, dtype), values in zip(COLUMNS.items(), [*rows, error], strict=True)
    }


def tallied(rows: dict[str, np.ndarray], parts: int, *, open_loop: bool) -> CallLog:
    tally = Tally(1, 3, open_loop=open_loop)
    edges = np.linspace(0, len(rows["input"]), parts + 1).astype(int)
    for begin, end in itertools.pairwise(edges):
        tally.add(begin, {name: column[begin:end] for name, column in rows.items()})
    return tally.handed_over(())


@pytest.mark.parametrize("open_loop", [False, True])
def test_counts_give_the_figures_of_the_calls_they_counted(open_loop):
    rows = rows_of(60_000, open_loop=open_loop)
    exact = summarize(CallLog(**rows, open_loop=open_loop), (1, 2, 4))
    found = summarize(tallied(rows, 7, open_loop=open_loop), (1, 2, 4))
    assert (found.completed_calls, found.failed_calls) == (
        exact.completed_calls,
        exact.failed_calls,
    )
    assert found.duration_s == exact.duration_s
    assert found.throughput_items_per_s.value == pytest.approx(exact.throughput_items_per_s.value)
    for name in ("response_ms", "service_ms", "queue_ms", "lateness_ms"):
        one, other = getattr(found, name), getattr(exact, name)
        assert (one is None) == (other is None)
        if one is None:
            continue
        assert one.counted
        assert (one.min, one.max) == (other.min, other.max)
        assert one.mean == pytest.approx(other.mean, rel=1e-9)
        for q in QUOTED_QUANTILES.values():
            assert one.quantile(q) == pytest.approx(other.quantile(q), rel=1e-3, abs=1e-9)
    # batches are windows of time here and of calls there: the intervals are near each other
    assert found.response_ms.p90.low == pytest.approx(exact.response_ms.p90.low, rel=0.03)
    assert found.response_ms.p90.high == pytest.approx(exact.response_ms.p90.high, rel=0.03)


def test_lateness_is_counted_from_when_one_of_several_callers_was_free():
    generator = np.random.default_rng(1)
    calls, callers = 30_000, 3
    scheduled = np.cumsum(generator.exponential(1e6, calls)).astype(np.int64)
    service = generator.exponential(2.4e6, calls).astype(np.int64)
    late = generator.integers(0, 50_000, calls)
    started = replayed(scheduled, service, callers) + late
    rows = rows_of(calls, open_loop=False) | {
        "scheduled_ns": scheduled,
        "started_ns": started,
        "finished_ns": started + service,
        "error": np.full(calls, -1, np.int32),
    }
    tally = Tally(callers, 3, open_loop=True)
    for begin in range(0, calls, 700):
        tally.add(begin, {name: column[begin : begin + 700] for name, column in rows.items()})
    found = summarize(tally.handed_over(()), (1, 1, 1), callers=callers).lateness_ms
    log = CallLog(**rows, open_loop=True)
    exact = summarize(log, (1, 1, 1), callers=callers).lateness_ms
    # where the lateness of some calls delays others is the same in both
    assert found.mean == pytest.approx(exact.mean, rel=1e-6)
    assert found.max == exact.max
    as_if_alone = summarize(log, (1, 1, 1), callers=1).lateness_ms
    assert abs(as_if_alone.mean - exact.mean) > 0.1 * exact.mean


def test_windows_widen_as_a_run_grows_and_lose_nothing(monkeypatch: pytest.MonkeyPatch):
    rows = rows_of(50_000, open_loop=False)
    whole = tallied(rows, 200, open_loop=False).tally
    assert len(whole.failed) <= MOST_WINDOWS
    assert whole.calls == 50_000
    service = rows["finished_ns"] - rows["started_ns"]
    assert whole.sums["service_ns"].sum() == pytest.approx(service[rows["error"] < 0].sum())
    window = rows["finished_ns"] // whole.width_ns
    expected = np.bincount(window[rows["error"] >= 0], minlength=len(whole.failed))
    assert np.array_equal(whole.failed, expected)


def test_the_sample_is_uniform_over_the_run_and_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "SAMPLED_CALLS", 2000)
    log = tallied(rows_of(50_000, open_loop=False), 40, open_loop=False)
    assert 1000 <= len(log) <= 2000
    assert (np.diff(log.scheduled_ns) > 0).all()
    quarters = np.histogram(log.scheduled_ns, 4)[0]
    # a quarter of about 1,500: standard deviation about 17
    assert (abs(quarters - len(log) / 4) < 90).all()


def test_a_level_samples_one_row_in_two_to_it_out_of_those_of_the_level_before():
    rows = np.arange(100_000, dtype=np.uint64)
    before = in_sample(rows, 0)
    assert before.all()
    for level in range(1, 8):
        kept = in_sample(rows, level)
        expected = 100_000 / 2**level
        assert abs(kept.sum() - expected) < 5 * expected**0.5
        assert not (kept & ~before).any()
        before = kept


def test_a_drift_shows_in_counts_as_well():
    rows = rows_of(60_000, open_loop=False)
    rows["finished_ns"] += (np.arange(60_000) * 20).astype(np.int64)
    assert judged(tallied(rows, 7, open_loop=False)).steady is False


def test_a_caller_is_free_when_one_of_the_calls_before_has_ended():
    finished = np.array([10, 4, 12, 20, 21])
    free, carried = free_since(finished, np.empty(0, np.int64), 2)
    assert free[2:].tolist() == [4, 10, 12]
    assert carried.tolist() == [20, 21]
    again, _ = free_since(np.array([30, 31]), carried, 2)
    assert again.tolist() == [20, 21]
