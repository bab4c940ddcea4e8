"""What charts are drawn of: curves and series of a few hundred points, however many the calls."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from inferload.log import buckets as hdr
from inferload.records.distribution import QUOTED_QUANTILES, quantile_rank
from inferload.units import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from inferload.log.arrays import Floats, Int64s
    from inferload.log.calls import CallLog, CallTally
    from inferload.records.distribution import Distribution

CURVE_POINTS = 240
MOST_STRETCHES = 180
LEAST_CALLS_A_STRETCH = 100
MOST_STRIPS = 64
STRIP_CELLS = 120
# Of all strips together: each is a rectangle of its own, and 40 bytes of a page.
_MOST_CELLS = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Calls by when they finished, in stretches of equal length; quantiles are of those calls.

    All arrays have the shape ``(stretches,)``; quantiles are NaN where no call returned.
    """

    width_s: float
    middles_s: Floats
    calls: Int64s
    failed: Int64s
    p50_ms: Floats
    p99_ms: Floats
    max_ms: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Strips:
    """The mean service time of each caller over time, shape ``(strips, cells)``; NaN: no call.

    ``labels`` name the callers of each strip: one, or several next to each other of very many.
    """

    labels: tuple[str, ...]
    middles_s: Floats
    mean_ms: Floats
    calls: Int64s


def percentile_curve(distribution: Distribution) -> tuple[Floats, Floats]:
    """Pairs of 1 / (1 - q) and the q-quantile in ms, evenly spaced on a logarithmic axis.

    The value of rank r is that of all q above (r - 1) / n up to r / n, at the upper end of which it
    stands: a curve of steps. The largest would be at infinity, and stands at twice as many as there
    are values. Empty without a sample.
    """
    count = distribution.count
    finished = count - distribution.unfinished
    if distribution.sample is None or finished < 1:
        return np.empty(0), np.empty(0)
    tails = np.geomspace(1, count, CURVE_POINTS) if count > 1 else np.ones(1)
    levels = [*(1 - 1 / tail for tail in tails), *QUOTED_QUANTILES.values()]
    ranks = np.unique([quantile_rank(q, count) for q in levels])
    ranks = ranks[ranks <= finished]
    if ranks[-1] != finished and not distribution.unfinished:
        ranks = np.append(ranks, finished)
    values = [distribution.sample.value_of_rank_ms(int(rank)) for rank in ranks]
    return count / np.maximum(count - ranks, 0.5), np.array(values)


def timeline(log: CallLog) -> Timeline | None:
    """The whole run, what was cut off too; ``None`` of no calls."""
    if log.tally is not None:
        return _counted_timeline(log.tally, "response_ns" if log.open_loop else "service_ns")
    if not len(log):
        return None
    end_ns = max(int(log.finished_ns.max()), 1)
    count = int(np.clip(len(log) // LEAST_CALLS_A_STRETCH, 1, MOST_STRETCHES))
    place = _places(log.finished_ns, end_ns, count)
    order = np.argsort(place, kind="stable")
    edges = np.searchsorted(place[order], np.arange(count + 1))
    well, response = log.completed[order], log.response_ns[order]
    all_well = bool(well.all())
    found = np.full((3, count), np.nan)
    failed = np.zeros(count, np.int64)
    for stretch, (begin, end) in enumerate(pairwise(edges)):
        values = response[begin:end]
        if not all_well:
            values = values[well[begin:end]]
            failed[stretch] = end - begin - len(values)
        if len(values):
            ranks = [quantile_rank(q, len(values)) - 1 for q in (0.5, 0.99, 1.0)]
            found[:, stretch] = np.partition(values, ranks)[ranks] / NS_PER_MS
    return _timeline(end_ns / NS_PER_S / count, np.diff(edges), failed, found)


def _counted_timeline(tally: CallTally, name: str) -> Timeline:
    counts = tally.counts[name]
    windows = counts.windows
    used = -(-tally.last_finished_ns // tally.width_ns)
    edges = np.searchsorted(counts.cells, np.arange(windows + 1) * hdr.BUCKETS)
    middles = hdr.middles_ns()
    found = np.full((3, windows), np.nan)
    for window, (begin, end) in enumerate(pairwise(edges)):
        if begin == end:
            continue
        upto = np.cumsum(counts.counts[begin:end])
        ranks = [quantile_rank(q, int(upto[-1])) for q in (0.5, 0.99, 1.0)]
        buckets = counts.cells[begin:end][np.searchsorted(upto, ranks)] % hdr.BUCKETS
        found[:, window] = middles[buckets] / NS_PER_MS
    calls = tally.returned_by_input.sum(axis=1) + tally.failed
    return _timeline(tally.width_ns / NS_PER_S, calls[:used], tally.failed[:used], found[:, :used])


def _timeline(width_s: float, calls: Int64s, failed: Int64s, found: Floats) -> Timeline:
    return Timeline(
        width_s=width_s,
        middles_s=np.float64(width_s) * (np.arange(len(calls)) + 0.5),
        calls=calls,
        failed=failed,
        p50_ms=found[0],
        p99_ms=found[1],
        max_ms=found[2],
    )


def strips(log: CallLog, callers: int) -> Strips | None:
    """A strip for each caller, of the calls in a log that returned; ``None`` if none did."""
    if not log.completed.all():
        log = log.rows(log.completed)
    if not len(log):
        return None
    each = -(-callers // MOST_STRIPS)
    rows = -(-callers // each)
    end_ns = max(int(log.finished_ns.max()), 1)
    cells = int(np.clip(len(log) // rows, 1, min(STRIP_CELLS, _MOST_CELLS // rows)))
    place = _places(log.finished_ns, end_ns, cells).astype(np.int64)
    place += (log.caller // each).astype(np.int64) * cells
    calls = np.bincount(place, minlength=rows * cells)
    total_ns = np.bincount(place, log.service_ns, minlength=rows * cells)
    with np.errstate(invalid="ignore"):
        mean_ms = total_ns / calls / NS_PER_MS
    return Strips(
        labels=tuple(
            str(first) if each == 1 else f"{first} to {min(first + each, callers) - 1}"
            for first in range(0, callers, each)
        ),
        middles_s=(np.arange(cells) + 0.5) * end_ns / cells / NS_PER_S,
        mean_ms=mean_ms.reshape(rows, cells),
        calls=calls.reshape(rows, cells),
    )


def _places(
    finished_ns: Int64s, end_ns: int, count: int
) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """In which of ``count`` stretches of equal length each call finished; 255 at most."""
    found = finished_ns * (count / end_ns)
    return np.clip(found, 0, count - 1, out=found).astype(np.uint8)


def slowest(log: CallLog, most: int = 10, from_ns: int = 0) -> Int64s:
    """The rows of the calls that returned last after they were due, the slowest first.

    Of those that finished after ``from_ns``.
    """
    rows = None
    if from_ns > 0 or (log.error >= 0).any():
        rows = np.flatnonzero(log.completed & (log.finished_ns > from_ns))
    response = log.response_ns if rows is None else log.response_ns[rows]
    count = min(most, len(response))
    if count == 0:
        return np.empty(0, np.int64)
    top = np.argpartition(response, len(response) - count)[len(response) - count :]
    top = top[np.argsort(response[top])[::-1]]
    found: Int64s = top if rows is None else rows[top]
    return found
