"""A summary takes memory for a few numbers a call, and keeps none of them."""

from __future__ import annotations

import tracemalloc

import numpy as np

from inferload.log.calls import CallLog
from inferload.stats.summary import judged, summarize

CALLS = 1_000_000


def log_of(took_ns: np.ndarray) -> CallLog:
    """Calls that start 1 us after each other, and end in another order."""
    count = len(took_ns)
    started = np.arange(count, dtype=np.int64) * 1000
    return CallLog(
        scheduled_ns=started,
        started_ns=started,
        finished_ns=started + took_ns,
        caller=np.zeros(count, np.int32),
        input=np.zeros(count, np.int32),
        error=np.full(count, -1, np.int32),
    )


def test_a_summary_of_a_million_calls_takes_little_memory_and_keeps_none():
    took = np.random.default_rng(0).exponential(1e5, CALLS).astype(np.int64) + 1
    log, small = log_of(took), log_of(took[:2000])
    judged(small)
    summarize(small, (1,), callers=16)  # what it imports is imported
    tracemalloc.start()
    try:
        steady = judged(log)
        found = summarize(log, (1,), callers=16)
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert steady.steady is not None
    # the order of calls, a duration of each, and what sorting them takes
    assert most < 24 * CALLS
    assert kept < CALLS // 10
    # what is asked for later is computed again, and is the same
    assert found.response_ms.quantile(0.5) == found.response_ms.p50.value
    assert found.response_ms.quantile(0.25) == np.sort(took)[CALLS // 4 - 1] / 1e6
