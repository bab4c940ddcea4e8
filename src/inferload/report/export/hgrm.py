"""Percentiles as HdrHistogram prints them (``.hgrm``), for its plotter and what reads the same.

Format: ``outputPercentileDistribution`` of HdrHistogram, with 5 ticks to every half of what is left
to 100 %, values in milliseconds. A value is the highest that counts as equal to those in its bucket
(3 significant digits).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from inferload.errors import PlanError
from inferload.log import buckets as hdr
from inferload.log.calls import NO_STAGE
from inferload.units import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from inferload.log.arrays import Int64s
    from inferload.records.result import RunResult

TICKS = 5


def write(result: RunResult, file: Path, *, ending: str, duration: str) -> str | None:
    """The calls that returned after what is cut off, all of them counted.

    Raises:
        PlanError: no call has returned.
    """
    del ending
    counts, mean_ns = _counted(result, duration)
    if counts is None:
        raise PlanError("no call has returned, so there are no percentiles")
    file.write_text("\n".join([*_lines(counts, mean_ns), ""]), encoding="ascii")
    if result.summary.overload is not None:
        return (
            "the queue grew through the run: percentiles of response and queue say how long it "
            "lasted, and the report quotes none"
        )
    if result.summary.unfinished_calls:
        return (
            f"percentiles are of the {int(counts.sum()):,} calls that returned; "
            f"{result.summary.unfinished_calls:,} that never finished are not in them"
        )
    return None


def _counted(result: RunResult, duration: str) -> tuple[Int64s | None, float]:
    """Counts by bucket, and the mean."""
    log, from_s = result.log, result.summary.from_s
    if duration == "gap":  # those of the calls whose pieces were kept
        times = log.piece_times
        return _of(np.empty(0, np.int64) if times is None else times.gaps_ns(round(from_s * 1e9)))
    name = "first_response_ns" if duration == "first" else f"{duration}_ns"
    if log.tally is not None:
        # a closed loop has no queue, and counts its service times alone
        known = name if name in log.tally.counts else "service_ns"
        counts = log.tally.counts[known]
        first = round(from_s * 1e9) // log.tally.width_ns
        found = counts.since(first).by_bucket()
        if name == "queue_ns" != known:
            total = int(found.sum())
            found = np.zeros_like(found)
            found[0] = total
            return (found, 0.0) if total else (None, 0.0)
        total_ns = float(log.tally.sums[known][first:].sum())
        return (found, total_ns / max(int(found.sum()), 1)) if found.any() else (None, 0.0)
    values = log.duration_ns(name)[log.completed & (log.finished_ns > round(from_s * 1e9))]
    return _of(values[values != NO_STAGE])


def _of(values: Int64s) -> tuple[Int64s | None, float]:
    return (hdr.counts_of(values), float(values.mean())) if len(values) else (None, 0.0)


def _lines(counts: Int64s, mean_ns: float) -> Iterator[str]:
    yield f"{'Value':>12} {'Percentile':>14} {'TotalCount':>10} {'1/(1-Percentile)':>16}"
    yield ""
    total, highest = int(counts.sum()), hdr.highest_ns()
    upto = np.cumsum(counts)
    for level in _levels(upto, total):
        bucket, share = level
        value = f"{highest[bucket] / NS_PER_MS:12.6f} {share:2.12f} {upto[bucket]:10d}"
        yield value if upto[bucket] == total and share >= 1 else f"{value} {1 / (1 - share):14.2f}"
    middles = hdr.middles_ns()
    spread = math.sqrt(float((counts * (middles - mean_ns) ** 2).sum()) / total)
    last = int(np.flatnonzero(counts)[-1])
    yield (f"#[Mean    = {mean_ns / NS_PER_MS:12.6f}, StdDeviation   = {spread / NS_PER_MS:12.6f}]")
    yield f"#[Max     = {highest[last] / NS_PER_MS:12.6f}, Total count    = {total:12d}]"
    yield f"#[Buckets = {32:12d}, SubBuckets     = {2048:12d}]"


def _levels(upto: Int64s, total: int) -> Iterator[tuple[int, float]]:
    """Pairs of a bucket and the fraction that is asked for there."""
    level = 0.0
    while level < 100:
        bucket = int(np.searchsorted(upto, max(math.ceil(level / 100 * total - 1e-9), 1)))
        yield bucket, level / 100
        if upto[bucket] == total:
            break
        # the next tick: half of what is left to 100 % has TICKS of them
        left = 2.0 ** math.floor(math.log2(100 / (100 - level)) + 1)
        level += 100 / (left * TICKS)
    yield int(np.searchsorted(upto, total)), 1.0
