"""How long a call takes as time goes by: what windows of equally many calls hide.

Thirty calls of 100 ms among the first fifty of a run are lost in a median, and are three seconds of
it. So a run is also cut into windows of equal time, and each of them has the mean duration of its
calls as it is seen by the clock: the time that calls spent in it, divided by how many calls' worth
of work was done in it. A call counts in each window with the share of it that lies there, so that
nothing depends on where calls happen to end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inferload.log.arrays import Floats, Int64s

WINDOWS = 60
# So many calls are looked at in one go, so that their times take little memory.
_AT_ONCE = 65_536


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pace:
    """Windows of equal time; ``busy_s`` and ``done`` have the shape ``(windows,)``.

    ``busy_s``: the time that all calls together spent in a window, ``done``: how many calls' worth
    of work was done there. ``edges_s`` are where windows begin and the last one ends, and
    ``ends_s`` the first finish of a call at or after each: where a run may be cut. ``calls_s`` are
    the mean durations of equally many calls, one stretch after another, in the later half of the
    calls, which begins at ``half_s``: what the run is like once it runs.
    """

    edges_s: Floats
    ends_s: Floats
    busy_s: Floats
    done: Floats
    calls_s: Floats
    half_s: float

    @property
    def means_s(self) -> Floats:
        """The mean duration of a call in each window; NaN where none was under way."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.busy_s > 0, self.busy_s / self.done, np.nan)

    def whole_calls(self, from_s: float) -> tuple[Floats, Floats]:
        """``busy_s`` and ``done`` from a time on, of windows that hold a call of each caller.

        Windows with less are put together: a call that stands still for ten of them is one call,
        and no trend.
        """
        there = self.edges_s[:-1] >= from_s
        busy, done = self.busy_s[there], self.done[there]
        in_flight = float(busy.sum() / max(self.edges_s[-1] - from_s, 1e-9))
        group, held = np.zeros(len(done), np.int64), 0.0
        for place, calls in enumerate(done.tolist()):
            if held >= max(in_flight, 1.0) - 1e-6:
                group[place:] += 1
                held = 0.0
            held += calls
        busy_s, calls_done = np.bincount(group, busy), np.bincount(group, done)
        used = calls_done > 0
        return busy_s[used].astype(np.float64), calls_done[used].astype(np.float64)


def pace_of(
    begun_ns: Int64s,
    ended_ns: Int64s,
    stretches: int,
    windows: int = WINDOWS,
    *,
    order: NDArray[np.integer] | None = None,
) -> Pace:
    """The pace of calls that stand in the order in which they ended, or nearly so.

    ``order`` puts them in it where they do not. ``stretches``: of so many stretches of equally many
    calls those in the later half have a mean each in ``calls_s``. There is at least one call.
    """
    count = len(ended_ns)
    width = max(int(ended_ns.max()), 1) / windows
    found = _Windows(width, windows)
    bounds = np.linspace(0, count, stretches + 1).astype(np.int64)[stretches // 2 :]
    sums = np.zeros(len(bounds) - 1)
    half_ns, latest_ns = 0, 0
    times_s = np.float64(width) * np.arange(windows + 1) / 1e9
    edges_ns = np.round(times_s * 1e9)
    ends_ns = np.full(windows + 1, -1, np.int64)
    for first in range(0, count, _AT_ONCE):
        rows = slice(first, first + _AT_ONCE)
        own: slice | NDArray[np.integer] = rows if order is None else order[rows]
        begun, ended = begun_ns[own], ended_ns[own]
        found.add(begun, ended)
        sums += _sums_within(ended - begun, bounds - first)
        ascending = np.maximum(np.maximum.accumulate(ended), latest_ns)
        latest_ns = int(ascending[-1])
        if first < bounds[0] <= first + len(ascending):
            half_ns = int(ascending[bounds[0] - 1 - first])
        places = np.searchsorted(ascending, edges_ns)
        new = (ends_ns < 0) & (places < len(ascending))
        ends_ns[new] = ascending[places[new]]
    ends_ns[ends_ns < 0] = latest_ns
    return Pace(
        edges_s=times_s,
        ends_s=ends_ns / 1e9,
        busy_s=found.busy_ns / 1e9,
        done=found.done,
        calls_s=sums / np.diff(bounds) / 1e9,
        half_s=half_ns / 1e9,
    )


class _Windows:
    """The time that calls spent in windows of equal length, and how many calls' worth it was."""

    def __init__(self, width: float, windows: int) -> None:
        self._width, self._windows = width, windows
        self.busy_ns, self.done = np.zeros(windows), np.zeros(windows)

    def add(self, begun_ns: Int64s, ended_ns: Int64s) -> None:
        """Count some calls more."""
        width, windows = self._width, self._windows
        first, last = (_window(times, width, windows) for times in (begun_ns, ended_ns))
        took = (ended_ns - begun_ns).astype(np.float64)
        within = first == last
        self.done += np.bincount(first[within], minlength=windows)
        self.busy_ns += np.bincount(first[within], took[within], minlength=windows)
        across = ~within
        if not across.any():
            return
        begun, ended = begun_ns[across].astype(np.float64), ended_ns[across].astype(np.float64)
        edges = np.float64(width) * np.arange(windows + 1)
        per_ns = 1 / (ended - begun)
        begin, end = first[across], last[across]

        def over_windows(weights: Floats) -> Floats:
            """The sum of weight x how long calls ran, in each window."""
            upto = _ramps(begun, begin, weights, edges) - _ramps(ended, end, weights, edges)
            return np.diff(upto)

        self.busy_ns += over_windows(np.ones_like(per_ns))
        self.done += over_windows(per_ns)


def _sums_within(values: Int64s, bounds: Int64s) -> Floats:
    """The sum of the values between each two bounds, of which any may lie outside of them."""
    upto = np.concatenate([[0], np.cumsum(values)])
    return np.diff(upto[np.clip(bounds, 0, len(values))]).astype(np.float64)


def _window(times_ns: Int64s, width: float, windows: int) -> Int64s:
    found: Int64s = np.clip(times_ns / width, 0, windows - 1).astype(np.int64)
    return found


def _ramps(from_ns: Floats, windows_of: Int64s, weights: Floats, edges: Floats) -> Floats:
    """At each edge, the sum of weight x time since each ``from_ns``, of those before it."""
    count = len(edges) - 1
    weight = np.concatenate([[0.0], np.cumsum(np.bincount(windows_of, weights, count))])
    moment = np.concatenate([[0.0], np.cumsum(np.bincount(windows_of, weights * from_ns, count))])
    found: Floats = weight * edges - moment
    return found
