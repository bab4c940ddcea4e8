from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inferload.log import merge as merging
from inferload.log import tally
from inferload.log.calls import COLUMNS, CallLog
from inferload.log.failures import CallFailure
from inferload.log.merge import LogPlace
from inferload.log.tally import Tally
from inferload.stats.summary import summarize


def log_of(calls: int, seed: int, *, callers: int = 2, service_ns: float = 1e6) -> CallLog:
    """Calls due at random times, served by as many callers, one queue."""
    generator = np.random.default_rng(seed)
    scheduled = np.cumsum(generator.exponential(service_ns, calls)).astype(np.int64)
    started = scheduled + generator.integers(0, 1000, calls)
    finished = started + generator.gamma(2.0, service_ns / 2, calls).astype(np.int64)
    columns = {
        "scheduled_ns": scheduled,
        "started_ns": started,
        "finished_ns": finished,
        "caller": generator.integers(0, callers, calls),
        "input": generator.integers(0, 3, calls),
        "error": np.where(generator.random(calls) < 0.01, 0, -1),
    }
    return CallLog(
        **{name: columns[name].astype(dtype) for name, dtype in COLUMNS.items()},
        errors=(CallFailure(type="ValueError", message=f"of {seed % 2}"),),
        open_loop=True,
    )


def merged(logs: list[CallLog], callers: int, **changes: object) -> CallLog:
    places = [LogPlace(callers=callers, first_caller=callers * n) for n in range(len(logs))]
    options = {"open_loop": True, "inputs": 3} | changes
    return merging.merged([*zip(logs, places, strict=True)], [callers], **options)


def rows_of(log: CallLog) -> set[tuple[int, ...]]:
    return set(zip(*(getattr(log, name).tolist() for name in COLUMNS), strict=True))


def counted(log: CallLog, *, callers: int = 2) -> CallLog:
    counts = Tally(callers, 3, open_loop=True)
    counts.add(0, {name: getattr(log, name) for name in COLUMNS})
    return counts.handed_over(log.errors)


def test_merging_is_concatenating_with_callers_numbered_through():
    logs = [log_of(3_000, seed) for seed in range(4)]
    found = merged(logs, 2)
    assert len(found) == 12_000
    for number, log in enumerate(logs):
        mine = found.process == number
        assert int(mine.sum()) == 3_000
        for name in ("scheduled_ns", "started_ns", "finished_ns", "input"):
            assert (getattr(found, name)[mine] == getattr(log, name)).all()
        assert (found.caller[mine] == log.caller + 2 * number).all()
    assert (np.diff(found.scheduled_ns) >= 0).all()


def test_merged_quantiles_are_those_of_all_calls_and_no_average_of_quantiles():
    # 9,900 calls of 1 ms in one process and 100 of 100 ms in the other: averaged, p99 is 50.5 ms
    fast, slow = (
        CallLog(
            scheduled_ns=np.arange(n, dtype=np.int64) * 10**6,
            started_ns=np.arange(n, dtype=np.int64) * 10**6,
            finished_ns=np.arange(n, dtype=np.int64) * 10**6 + took,
            caller=np.zeros(n, np.int32),
            input=np.zeros(n, np.int32),
            error=np.full(n, -1, np.int32),
        )
        for n, took in ((9_900, 10**6), (100, 10**8))
    )
    response = summarize(merged([fast, slow], 1), (1,), callers=2).response_ms
    assert response.quantile(0.99) == 1
    assert response.quantile(0.9901) == 100


def test_errors_of_all_logs_are_one_list_and_keep_their_calls():
    logs = [log_of(2_000, seed) for seed in range(3)]
    found = merged(logs, 2)
    assert [error.message for error in found.errors] == ["of 0", "of 1"]
    for number, log in enumerate(logs):
        failed = found.error[found.process == number]
        assert (failed >= 0).sum() == (log.error >= 0).sum()
        assert set(failed[failed >= 0]) == {number % 2}


def test_a_log_without_calls_adds_nothing():
    logs = [log_of(50, 0), replace(log_of(1, 1), **{n: np.empty(0, d) for n, d in COLUMNS.items()})]
    assert set(merged(logs, 2).process) == {0}
    assert len(merged([logs[1], logs[1]], 2)) == 0


@pytest.mark.parametrize("which", ["all counted", "one counted"])
def test_counts_that_are_added_give_the_figures_of_the_concatenated_calls(which, monkeypatch):
    monkeypatch.setattr(tally, "SAMPLED_CALLS", 5_000)
    monkeypatch.setattr(merging, "SAMPLED_CALLS", 5_000)
    # of very different length, so that their windows differ in width
    logs = [log_of(calls, seed) for seed, calls in enumerate((40_000, 3_000, 11_000))]
    exact = summarize(merged(logs, 2), (1, 2, 4), callers=6)
    parts = [counted(log) for log in logs]
    found = merged(parts if which == "all counted" else [parts[0], *logs[1:]], 2)
    got = summarize(found, (1, 2, 4), callers=6)
    assert found.calls_made == 54_000
    assert (got.completed_calls, got.failed_calls) == (exact.completed_calls, exact.failed_calls)
    assert got.duration_s == exact.duration_s
    assert got.throughput_items_per_s.value == pytest.approx(exact.throughput_items_per_s.value)
    for name in ("response_ms", "service_ms", "queue_ms", "lateness_ms"):
        mine, its = getattr(got, name), getattr(exact, name)
        assert (mine.min, mine.max) == (its.min, its.max)
        assert mine.mean == pytest.approx(its.mean, rel=1e-9)
        for q in (0.5, 0.9, 0.99):
            assert mine.quantile(q) == pytest.approx(its.quantile(q), rel=1e-3, abs=1e-6)


def test_the_rows_of_counted_logs_stay_a_uniform_sample_of_all_calls(monkeypatch):
    monkeypatch.setattr(tally, "SAMPLED_CALLS", 4_000)
    monkeypatch.setattr(merging, "SAMPLED_CALLS", 4_000)
    logs = [log_of(calls, seed) for seed, calls in enumerate((60_000, 6_000))]
    found = merged([counted(log) for log in logs], 2)
    kept = [int((found.process == number).sum()) for number in range(2)]
    one_in = found.tally.sampled_one_in
    # the number kept of n calls is binomial: n / k, give or take 5 standard deviations
    for calls, rows in zip((60_000, 6_000), kept, strict=True):
        assert abs(rows - calls / one_in) < 5 * (calls / one_in) ** 0.5
    assert rows_of(found) <= rows_of(merged(logs, 2))


def test_a_call_is_late_by_the_callers_of_its_own_queue():
    # two processes, each with a queue of two callers and one of one
    logs = [log_of(2_000, seed, callers=2 - seed % 2) for seed in range(4)]
    places = [
        LogPlace(callers=2, first_caller=0, first_input=0),
        LogPlace(callers=1, first_caller=2, first_input=3),
        LogPlace(callers=2, first_caller=3, first_input=0),
        LogPlace(callers=1, first_caller=5, first_input=3),
    ]
    pairs = [*zip(logs, places, strict=True)]
    found = merging.merged(pairs, [2, 1], open_loop=True, inputs=6)
    assert set(found.process) == {0, 1}
    assert (np.bincount(found.input) > 0).all()
    late = summarize(found, (1,) * 6, callers=6).lateness_ms
    alone = [summarize(log, (1,) * 3, callers=place.callers).lateness_ms for log, place in pairs]
    counts = [one.count for one in alone]
    assert late.count == sum(counts)
    assert late.mean == pytest.approx(np.average([one.mean for one in alone], weights=counts))
    assert late.max == max(one.max for one in alone)
