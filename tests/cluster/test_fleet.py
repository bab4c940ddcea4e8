"""What ranks hand over, merged: raw calls or counts of them."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest

import inferload as il
from inferload.errors import ResultFormatError
from inferload.log.calls import COLUMNS, CallLog
from inferload.records.figures import RankFigures
from inferload.records.result import RunResult
from inferload.runs.checks.ranks import rank_checks, stragglers
from inferload.runs.cluster.fleet import Fleet
from inferload.runs.cluster.handover import MOST_RAW_CALLS, handed_over, packed, unpacked
from inferload.runs.execution import Execution
from inferload.runs.result import result_of
from inferload.stats.summary import summarize
from support.ranks import SPEC, execution_of, simulated_log

TIMES = ("scheduled_ns", "started_ns", "finished_ns")


def merged(
    logs: dict[int, CallLog],
    *,
    ranks: int,
    most_raw_calls: int = MOST_RAW_CALLS,
    lost: dict[int, tuple[str, str]] | None = None,
    changes: dict[int, dict[str, object]] | None = None,
) -> RunResult:
    fleet = Fleet(most_raw_calls)
    for rank, log in logs.items():
        done: Execution = execution_of(log, **(changes or {}).get(rank, {}))
        report, handed = handed_over(
            done,
            rank=rank,
            ranks=ranks,
            host=f"host{rank}",
            late_ms=0.0,
            clock_error_ms=0.0,
            most_raw_calls=most_raw_calls,
        )
        fleet.add(*unpacked(bytearray(packed(report, handed)), rank))
    return result_of(fleet.execution(lost or {}, None))


def concatenated(logs: dict[int, CallLog]) -> CallLog:
    columns = {
        name: np.concatenate([getattr(log, name) for log in logs.values()]) for name in COLUMNS
    }
    columns["caller"] += np.repeat(
        np.array([*logs], np.int32) * SPEC.callers, [len(log) for log in logs.values()]
    )
    order = np.argsort(columns["scheduled_ns"], kind="stable")
    return CallLog(**{name: column[order] for name, column in columns.items()}, open_loop=True)


def test_merged_ranks_have_the_figures_of_the_concatenated_logs_exactly():
    logs = {rank: simulated_log(rank, 5_000 + 100 * rank) for rank in range(4)}
    found = merged(logs, ranks=4)
    exact = concatenated(logs)
    for name in (*TIMES, "caller", "input"):
        assert (getattr(found.log, name) == getattr(exact, name)).all()
    expected = summarize(exact, SPEC.items_per_input, callers=8)
    for name in ("completed_calls", "failed_calls", "duration_s", "throughput_calls_per_s"):
        assert getattr(found.summary, name) == getattr(expected, name)
    response = np.sort(exact.response_ns[exact.completed])
    for q in (0.5, 0.9, 0.99, 0.999):
        rank = int(np.ceil(round(q * len(response), 9)))
        assert found.summary.response_ms.quantile(q) == response[rank - 1] / 1e6
    assert found.summary.response_ms == expected.response_ms
    assert (found.spec.ranks, found.spec.processes, found.spec.callers) == (4, 4, 8)
    assert [one.host for one in found.ranks] == ["host0", "host1", "host2", "host3"]
    for rank, log in logs.items():
        own = np.sort(log.response_ns[log.completed])
        assert found.ranks[rank].completed_calls == len(own)
        assert found.ranks[rank].p99_ms == own[-(-99 * len(own) // 100) - 1] / 1e6
        assert found.processes[rank].completed_calls == len(own)
    total = sum(one.throughput_calls_per_s for one in found.ranks)
    assert total == pytest.approx(found.summary.throughput_calls_per_s.value)
    # every rank saw 1.5 calls in flight in the mean, all together 6; failed ones are among them
    law = exact.response_ns.sum() / 1e9 / 10.0 / 6
    assert found.summary.littles_law == pytest.approx(law, rel=1e-9)


def test_counted_ranks_have_the_same_figures_within_the_error_of_the_counts():
    # of different length, so that their windows differ in width
    logs = {
        rank: simulated_log(rank, 4_000 + 500 * rank, seconds=10.0 + 20 * (rank == 2))
        for rank in range(4)
    }
    exact = merged(logs, ranks=4)
    found = merged(logs, ranks=4, most_raw_calls=10_000)
    assert found.log.tally is not None
    assert found.log.calls_made == sum(map(len, logs.values()))
    assert found.summary.completed_calls == exact.summary.completed_calls
    assert found.summary.failed_calls == exact.summary.failed_calls
    assert found.summary.duration_s == exact.summary.duration_s
    for name in ("response_ms", "service_ms", "queue_ms", "lateness_ms"):
        mine, its = getattr(found.summary, name), getattr(exact.summary, name)
        assert (mine.min, mine.max) == (its.min, its.max)
        for q in (0.5, 0.9, 0.99):
            assert mine.quantile(q) == pytest.approx(its.quantile(q), rel=1e-3, abs=1e-6)
    for mine, its in zip(found.ranks, exact.ranks, strict=True):
        assert (mine.completed_calls, mine.failed_calls) == (its.completed_calls, its.failed_calls)
        assert mine.p50_ms == pytest.approx(its.p50_ms, rel=1e-3)
        assert mine.p99_ms == pytest.approx(its.p99_ms, rel=1e-3)


def test_of_counted_ranks_the_part_after_the_warm_up_is_told_by_rank_too():
    slow = simulated_log(0, 20_000)
    ends = slow.finished_ns + np.where(slow.scheduled_ns < 1e9, 20_000_000, 0)
    logs = {0: replace(slow, finished_ns=ends), 1: simulated_log(1, 20_000)}
    spec = replace(SPEC, warmup="auto")

    def with_auto(rank: int) -> dict[str, object]:
        (process,) = execution_of(logs[rank]).processes
        return {"processes": [replace(process, ready=replace(process.ready, spec=spec))]}

    changes = {rank: with_auto(rank) for rank in logs}
    found = merged(logs, ranks=2, most_raw_calls=100, changes=changes)
    assert found.summary.from_s > 0.5
    for rank, log in logs.items():
        kept = log.rows((log.finished_ns > found.summary.from_s * 1e9) & log.completed)
        assert found.ranks[rank].completed_calls == len(kept)
        assert found.ranks[rank].p50_ms == pytest.approx(
            np.median(kept.response_ns) / 1e6, rel=1e-3
        )


def test_a_rank_that_counts_makes_all_be_counted_and_the_rows_a_uniform_sample(monkeypatch):
    monkeypatch.setattr("inferload.log.merge.SAMPLED_CALLS", 3_000)
    monkeypatch.setattr("inferload.runs.cluster.handover.SAMPLED_CALLS", 3_000)
    logs = {0: simulated_log(0, 2_000), 1: simulated_log(1, 30_000), 2: simulated_log(2, 1_500)}
    found = merged(logs, ranks=3, most_raw_calls=9_000)
    assert found.log.calls_made == 33_500
    assert len(found.log) < 5_000
    exact = concatenated(logs)
    columns = (*TIMES, "caller", "input")
    rows = {tuple(row) for row in zip(*(getattr(exact, c).tolist() for c in columns), strict=True)}
    assert {
        tuple(row) for row in zip(*(getattr(found.log, c).tolist() for c in columns), strict=True)
    } <= rows
    one_in = found.log.tally.sampled_one_in
    for rank, log in logs.items():
        kept = int((found.log.process == rank).sum())
        # binomial: within 5 standard deviations
        assert abs(kept - len(log) / one_in) < 5 * (len(log) / one_in) ** 0.5 + 1


def test_a_lost_rank_leaves_its_number_free_and_is_named(tmp_path):
    logs = {rank: simulated_log(rank, 4_000) for rank in (0, 1, 3)}
    found = merged(logs, ranks=4, lost={2: ("host2", "was not heard of for 10 s")})
    assert found.status == "rank lost"
    assert (found.spec.ranks, found.spec.callers) == (4, 8)
    assert set(found.log.process) == {0, 1, 3}
    assert found.ranks[2].lost == "was not heard of for 10 s"
    assert [one.process for one in found.processes] == [0, 1, 3]
    (warning,) = [one for one in found.warnings if one.code == "rank-lost"]
    assert "rank 2 (host2) was not heard of for 10 s" in warning.message
    found.save(tmp_path / "r.json")
    again = il.load_result(tmp_path / "r.json")
    assert str(again) == str(found)
    assert "lost" in str(found)


def test_a_rank_that_is_slower_than_the_others_is_named_as_a_straggler():
    logs = {
        rank: simulated_log(rank, 4_000, median_ms=3.0 if rank == 2 else 2.0) for rank in range(5)
    }
    found = merged(logs, ranks=5)
    (warning,) = [one for one in found.warnings if one.code == "straggler"]
    assert warning.message.startswith("rank 2 (host2) has a median +")
    assert "; rank" not in warning.message
    same = merged({rank: simulated_log(rank, 4_000) for rank in range(5)}, ranks=5)
    assert not [one for one in same.warnings if one.code == "straggler"]


def figures(rank: int, **changes: object) -> RankFigures:
    fields = {"rank": rank, "host": "h", "processes": 1, "callers": 1, "p50_ms": 1.0} | changes
    return RankFigures(**fields)


def test_stragglers_are_told_from_ranks_that_differ_as_all_do():
    # of two, the quicker one is typical
    assert [r.rank for r in stragglers([figures(0, p50_ms=1.2), figures(1)])] == [0]
    assert stragglers([figures(0, p50_ms=1.09), figures(1)]) == []
    # a quarter of the ranks up by 12 %, where others are spread by 5 %: within 5 deviations
    spread = [figures(n, p50_ms=1 + 0.05 * (n % 3 - 1)) for n in range(12)]
    assert stragglers([*spread, figures(99, p50_ms=1.2)]) == []
    assert [r.rank for r in stragglers([*spread, figures(99, p50_ms=1.5)])] == [99]
    assert stragglers([figures(0)]) == []
    assert stragglers([figures(0, p50_ms=None), figures(1)]) == []


def test_ranks_that_start_late_or_differ_are_told_of():
    logs = {rank: simulated_log(rank, 2_000) for rank in range(2)}
    done = execution_of(logs[1])
    (process,) = done.processes
    other = {**process.ready.environment, "torch": "3"}
    changed = {"processes": [replace(process, ready=replace(process.ready, environment=other))]}
    found = merged(logs, ranks=2, changes={1: changed})
    assert found.ranks[1].differs == ("torch 3 (rank 0: 2)",)
    assert "ranks-differ" in [one.code for one in found.warnings]
    late = replace(found.ranks[1], late_ms=1500.0, clock_error_ms=20.0)
    codes = {code: message for code, message, _ in rank_checks([found.ranks[0], late])}
    assert codes["rank-late"] == "rank 1 (host1) began 1.50 s late"
    assert codes["clock-unsure"] == "rank 1 (host1) may be 20.0 ms off"


def test_errors_of_all_ranks_are_one_list():
    logs = {rank: simulated_log(rank, 4_000) for rank in range(4)}
    found = merged(logs, ranks=4)
    assert sorted(error.message for error in found.log.errors) == ["of 0", "of 1"]
    for rank, log in logs.items():
        mine = found.log.rows(found.log.process == rank)
        failed = mine.error[mine.error >= 0]
        assert len(failed) == (log.error >= 0).sum()
        assert {found.log.errors[number].message for number in failed} == {f"of {rank % 2}"}


def test_what_cannot_be_read_says_of_whom_it_is():
    report, log = handed_over(
        execution_of(simulated_log(3, 100)),
        rank=3,
        ranks=4,
        host="h",
        late_ms=0.0,
        clock_error_ms=0.0,
    )
    content = bytearray(packed(report, log))
    for damaged in (
        content[:-1],
        content[:40],
        content[:4],
        bytearray(),
        content[:8] + b"x" + content[9:],
    ):
        with pytest.raises(ResultFormatError) as caught:
            unpacked(damaged, 3)
        assert "rank 3" in str(caught.value)


@pytest.mark.parametrize("most_raw_calls", [MOST_RAW_CALLS, 1000])
def test_many_ranks_are_all_there(most_raw_calls):
    logs = {rank: simulated_log(rank, 100 + rank % 7) for rank in range(256)}
    found = merged(logs, ranks=256, most_raw_calls=most_raw_calls)
    exact = concatenated(logs)
    assert (found.log.tally is None) == (most_raw_calls == MOST_RAW_CALLS)
    assert found.log.calls_made == len(exact)
    assert found.summary.completed_calls == int(exact.completed.sum())
    response = np.sort(exact.response_ns[exact.completed])
    for q in (0.5, 0.9, 0.99, 0.999):
        expected = response[int(np.ceil(round(q * len(response), 9))) - 1] / 1e6
        assert found.summary.response_ms.quantile(q) == pytest.approx(expected, rel=1e-3)
    assert [one.rank for one in found.ranks] == [*range(256)]
    assert sum(one.completed_calls for one in found.ranks) == found.summary.completed_calls
    assert "the slowest of 256 ranks" in str(found)


def test_of_a_rank_that_was_counted_only_figures_stay():
    # so that memory does not grow with the calls of 10,000 ranks: arrays of this rank are let go
    fleet, kept = Fleet(1000), []
    for rank in range(2):
        report, log = handed_over(
            execution_of(simulated_log(rank, 20_000)),
            rank=rank,
            ranks=2,
            host="h",
            late_ms=0.0,
            clock_error_ms=0.0,
            most_raw_calls=1000,
        )
        report, log = unpacked(bytearray(packed(report, log)), rank)
        base = log.started_ns
        while base.base is not None and isinstance(base.base, np.ndarray):
            base = base.base
        kept.append(weakref.ref(base))
        fleet.add(report, log)
        del report, log, base
    gc.collect()
    assert [ref() for ref in kept] == [None, None]


def test_a_counted_rank_sends_no_more_rows_than_its_share_of_those_that_are_kept(monkeypatch):
    monkeypatch.setattr("inferload.runs.cluster.handover.SAMPLED_CALLS", 8_000)
    _, log = handed_over(
        execution_of(simulated_log(0, 30_000)),
        rank=0,
        ranks=16,
        host="h",
        late_ms=0.0,
        clock_error_ms=0.0,
        most_raw_calls=1000,
    )
    assert log.calls_made == 30_000
    # one in 64 of them: 469, binomial with a standard deviation of 21
    assert log.tally.sampled_one_in == 64
    assert 360 < len(log) < 580


def test_a_cluster_is_judged_by_the_machines_of_its_ranks():
    logs = {rank: simulated_log(rank, 500) for rank in range(2)}
    governors = {0: "performance", 1: "schedutil"}
    changes = {}
    for rank, log in logs.items():
        (process,) = execution_of(log).processes
        own = process.ready.environment | {"governor": governors[rank]}
        ready = replace(process.ready, environment=own)
        changes[rank] = {"processes": [replace(process, ready=ready)]}
    result = merged(logs, ranks=2, changes=changes)
    (said,) = [one.message for one in result.warnings if one.code == "governor"]
    assert said.startswith("the CPU governor of host1 is 'schedutil'")
    assert result.ranks[1].differs == ("governor schedutil (rank 0: performance)",)
