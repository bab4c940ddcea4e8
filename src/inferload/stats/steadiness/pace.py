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
    from inferload.log.arrays import Floats, Int64s

WINDOWS = 60


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


def pace_of(begun_ns: Int64s, ended_ns: Int64s, stretches: int, windows: int = WINDOWS) -> Pace:
    """The pace of calls that stand in the order in which they ended, or nearly so.

    ``stretches``: of so many stretches of equally many calls those in the later half have a mean
    each in ``calls_s``. There is at least one call.
    """
    last_ns = max(int(ended_ns.max()), 1)
    width = last_ns / windows
    first, last = (_window(times, width, windows) for times in (begun_ns, ended_ns))
    took = (ended_ns - begun_ns).astype(np.float64)
    within = first == last
    done = np.bincount(first[within], minlength=windows).astype(np.float64)
    busy = np.bincount(first[within], took[within], minlength=windows).astype(np.float64)
    across = ~within
    if across.any():
        begun, ended = begun_ns[across].astype(np.float64), ended_ns[across].astype(np.float64)
        edges = np.float64(width) * np.arange(windows + 1)
        per_ns = 1 / (ended - begun)
        begin, end = first[across], last[across]

        def over_windows(weights: Floats) -> Floats:
            """The sum of weight x how long calls ran, in each window."""
            upto = _ramps(begun, begin, weights, edges) - _ramps(ended, end, weights, edges)
            return np.diff(upto)

        busy += over_windows(np.ones_like(per_ns))
        done += over_windows(per_ns)
    bounds = np.linspace(0, len(took), stretches + 1).astype(np.int64)[stretches // 2 :]
    sums = np.add.reduceat(took, bounds[:-1])
    times_s = np.float64(width) * np.arange(windows + 1) / 1e9
    ascending = np.maximum.accumulate(ended_ns)
    places = np.searchsorted(ascending, np.round(times_s * 1e9))
    return Pace(
        edges_s=times_s,
        ends_s=ascending[np.minimum(places, len(ascending) - 1)] / 1e9,
        busy_s=busy / 1e9,
        done=done,
        calls_s=sums / np.diff(bounds) / 1e9,
        half_s=float(ascending[bounds[0] - 1]) / 1e9,
    )


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
