from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferload.log import buckets as hdr
from inferload.log.calls import CallLog
from inferload.records.distribution import quantile_rank
from inferload.stats.summary import summarize


def log_of(response_ns: list[int], *, error: list[int] | None = None, **columns: object) -> CallLog:
    count = len(response_ns)
    finished = np.cumsum(response_ns, dtype=np.int64)  # one after another
    started = finished - np.array(response_ns, np.int64)
    return CallLog(
        **{
            "scheduled_ns": started,
            "started_ns": started,
            "finished_ns": finished,
            "caller": np.zeros(count, np.int32),
            "input": np.zeros(count, np.int32),
            "error": np.array(error or [-1] * count, np.int32),
        }
        | columns
    )


def test_merged_raw_values_give_the_true_p99():
    # MEASUREMENT: 9,900 x 1 ms + 100 x 100 ms; averaging two p99s would give 50.5 ms
    parts = [np.full(9900, 1_000_000), np.full(100, 100_000_000)]
    both = np.random.default_rng(0).permutation(np.concatenate(parts))
    summary = summarize(log_of(both), (1,))
    assert summary.response_ms.p99.value == 1.0
    assert summary.response_ms.quantile(0.9901) == 100.0
    counts = hdr.counts_of(parts[0]) + hdr.counts_of(parts[1])
    assert hdr.value_of_rank(counts, 9900) == pytest.approx(1e6, rel=1e-3)
    assert hdr.value_of_rank(counts, 9901) == pytest.approx(1e8, rel=1e-3)


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=300), st.floats(0, 1))
def test_a_quantile_is_the_smallest_value_with_that_share_at_or_below_it(values, q):
    found = summarize(log_of(values), (1,)).response_ms.quantile(q)
    ascending = np.sort(np.array(values)) / 1e6
    assert found in ascending
    rank = int(np.searchsorted(ascending, found, side="right"))
    assert rank >= q * len(values) - 1e-6
    below = int(np.searchsorted(ascending, found, side="left"))
    assert below <= max(q * len(values), 0) + 1e-6


def test_ranks_do_not_suffer_from_binary_fractions():
    assert quantile_rank(0.07, 100) == 7
    assert quantile_rank(0.29, 100) == 29
    assert (quantile_rank(0.0, 10), quantile_rank(1.0, 10)) == (1, 10)


@pytest.mark.parametrize(
    ("name", "fewest"), [("p50", 20), ("p90", 100), ("p99", 1000), ("p999", 10_000)]
)
def test_a_quantile_is_quoted_only_from_the_sample_size_that_carries_it(name: str, fewest: int):
    # ten calls beyond it are more than the two-sided 95 % minimum at every quoted quantile
    too_few = summarize(log_of([5] * (fewest - 7)), (1,)).response_ms
    assert getattr(too_few, name) is None
    assert too_few.more_calls[name] == 7
    assert getattr(summarize(log_of([5] * fewest), (1,)).response_ms, name) is not None


def test_failed_calls_are_counted_and_not_timed():
    log = log_of([1_000_000, 9_000_000, 3_000_000], error=[-1, 0, -1])
    summary = summarize(log, (1,))
    assert (summary.completed_calls, summary.failed_calls) == (2, 1)
    assert summary.response_ms.max == 3.0


def test_items_are_counted_by_input():
    log = log_of([10, 10, 10], input=np.array([0, 1, 1], np.int32))
    summary = summarize(log, (1, 8))
    calls, items = summary.throughput_calls_per_s, summary.throughput_items_per_s
    assert items.value / calls.value == pytest.approx(17 / 3)


def test_queue_service_and_response_are_told_apart():
    log = log_of([50, 50], scheduled_ns=np.array([-20, 30], np.int64), open_loop=True)
    summary = summarize(log, (1,))
    assert summary.queue_ms.max == pytest.approx(20e-6)
    assert summary.service_ms.max == pytest.approx(50e-6)
    assert summary.response_ms.max == pytest.approx(70e-6)


def test_a_run_without_calls_has_a_summary():
    summary = summarize(log_of([]), (1,))
    assert summary.response_ms is None
    assert summary.throughput_calls_per_s.value == 0


def test_an_open_loop_without_calls_has_a_summary_too():
    log = log_of([], open_loop=True, callers_by_lane=(1, 2))
    assert log.queues() == []
    summary = summarize(log, (1,), due_s=2.0)
    assert (summary.duration_s, summary.overload) == (2.0, None)


def test_a_quantile_outside_of_0_to_1_is_refused():
    distribution = summarize(log_of([1, 2]), (1,)).response_ms
    with pytest.raises(ValueError, match=r"1\.5"):
        distribution.quantile(1.5)
