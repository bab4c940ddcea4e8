"""Where a run becomes steady, and whether it stays so.

The windows' medians are cut by MSER (White 1997: the cut that minimises the standard error of what
is left), limited to the first half. Only a beginning that differs from the rest is cut: MSER alone
would cut up to the end of any stall in the first half, and a stall is no warm-up. What is left
drifts if Kendall's test says so and its Theil-Sen line moves by more than 2 % in the time of the
run.

Medians of equally many calls do not see a few calls that take much of the time. So windows of equal
time are judged as well (``pace``): a beginning in which calls take longer, or less long, than once
the run runs is cut where it moves the mean of all calls by more than 2 %, however few its calls
are; and so is what is left judged for a drift, more strictly, because most drifts are seen twice.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from inferload.records.figures import SteadyState

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from inferload.log.arrays import Floats, Int64s
    from inferload.stats.steadiness.pace import Pace

WINDOWS = 60
CALLS_A_WINDOW = 50
FEWEST_WINDOWS = 10
DRIFT_P = 0.01
DRIFT_FRACTION = 0.02
# A drift of windows of equal time, or of few calls, is one with a smaller chance of being none.
PACE_DRIFT_P = 0.001
FEWEST_CALLS_A_WINDOW = 10


def windows_of(calls: int) -> int:
    """How many windows so many calls are cut into; 0 if they are too few to judge."""
    windows = min(WINDOWS, calls // CALLS_A_WINDOW)
    return windows if windows >= FEWEST_WINDOWS else 0


def few_windows_of(calls: int) -> int:
    """How many windows a plain drift is looked for in, of calls too few to judge; 0: none."""
    enough = calls >= FEWEST_WINDOWS * FEWEST_CALLS_A_WINDOW and not windows_of(calls)
    return FEWEST_WINDOWS if enough else 0


def window_medians(values: Int64s, windows: int) -> Floats:
    """Medians of equally many calls in the order of time; shape ``(windows,)``."""
    edges = np.linspace(0, len(values), windows + 1).astype(np.int64)
    return np.array([np.median(values[a:b]) for a, b in pairwise(edges)])


def mser_cut(medians: ArrayLike) -> int:
    """How many windows to cut at the start: at most half of them.

    >>> mser_cut([9, 5, 1, 1, 1, 1, 1, 1])
    2
    """
    values = np.asarray(medians, np.float64)
    return int(
        np.argmin([values[k:].var() / (len(values) - k) for k in range(len(values) // 2 + 1)])
    )


def steady_state(medians: ArrayLike, starts_s: ArrayLike, pace: Pace | None = None) -> SteadyState:
    """Judge a run by its windows' medians; ``starts_s[k]`` is when window k began.

    ``pace``: how long a call took as time went by, which is judged too if it is given.
    With fewer than ten windows ``steady`` is ``None``: nothing is cut and nothing is known.
    """
    values, starts = np.asarray(medians, np.float64), np.asarray(starts_s, np.float64)
    if len(values) < FEWEST_WINDOWS:
        return not_known(len(values))
    cut = min(mser_cut(values), _unlike_the_rest(values))
    cut_s, at_limit = float(starts[cut]) if cut else 0.0, cut == len(values) // 2
    if pace is not None and (settled := slow_start(pace)):
        settled_s = float(pace.ends_s[settled])
        cut_s, at_limit = max(cut_s, settled_s), at_limit or settled_s > pace.half_s
        cut = max(cut, min(int(np.searchsorted(starts, settled_s)), len(values) // 2 - 1))
        cut = len(values) // 2 if at_limit else cut
    kept = values[cut:]
    p, drift = _drift(kept, len(values))
    drifts, by_time = p < DRIFT_P and abs(drift) > DRIFT_FRACTION, False
    if pace is not None and not (at_limit or drifts):
        own_p, own_drift = _pace_drift(pace, cut_s)
        by_time = drifts = own_p < PACE_DRIFT_P and abs(own_drift) > DRIFT_FRACTION
        p, drift = (own_p, own_drift) if drifts else (p, drift)
    return SteadyState(
        steady=not (at_limit or drifts),
        cut_s=cut_s,
        windows=len(values),
        cut_windows=cut,
        drift_fraction=drift,
        drift_p=p,
        by_time=by_time,
    )


def steady_state_of_few(medians: ArrayLike) -> SteadyState:
    """Judge 100 to 500 calls by the medians of their service times: unsteady, or not known.

    Nothing is cut. In a thousand runs without a trend fewer than ten are flagged, also if calls
    that follow each other are alike (tests/statistical).
    """
    values = np.asarray(medians, np.float64)
    if len(values) < FEWEST_WINDOWS:
        return not_known()
    p, drift = _drift(values, len(values))
    if p >= PACE_DRIFT_P or abs(drift) <= DRIFT_FRACTION:
        return not_known()
    return SteadyState(
        steady=False,
        cut_s=0.0,
        windows=len(values),
        cut_windows=0,
        drift_fraction=drift,
        drift_p=p,
    )


def not_known(windows: int = 0) -> SteadyState:
    """Of a run that says nothing of it."""
    return SteadyState(
        steady=None,
        cut_s=0.0,
        windows=windows,
        cut_windows=0,
        drift_fraction=None,
        drift_p=None,
    )


def _drift(values: Floats, windows: int) -> tuple[float, float]:
    """The chance of such a trend without one, and by how much values move in all the windows."""
    middle = float(np.median(values))
    moved = theil_sen_slope(values) * (windows - 1) / middle if middle > 0 else 0.0
    return kendall_p(values), moved


def slow_start(pace: Pace) -> int:
    """How many windows of equal time at the start are not as the run is once it runs.

    0 where they move the mean of all calls by less than 2 %: one call that takes long is part of
    the run, also at its beginning, unless it is long enough to be seen in its figures.
    """
    middle = float(np.median(pace.calls_s))
    spread = 1.4826 * float(np.median(np.abs(pace.calls_s - middle)))
    alike = np.abs(pace.means_s - middle) <= max(3 * spread, DRIFT_FRACTION * middle)
    count = int(np.argmax(alike)) if alike.any() else len(alike)
    lost_s = float((pace.busy_s - pace.done * middle)[:count].sum())
    return count if abs(lost_s) > DRIFT_FRACTION * float(pace.busy_s.sum()) else 0


def _pace_drift(pace: Pace, from_s: float) -> tuple[float, float]:
    """The chance of such a trend without one, and by how much halves of the time differ.

    Not the Theil-Sen line: it is level where calls are slow in the last tenth of the calls alone.
    """
    busy_s, done = pace.whole_calls(from_s)
    if len(done) < FEWEST_WINDOWS:
        return 1.0, 0.0
    half = int(np.searchsorted(np.cumsum(busy_s), busy_s.sum() / 2))
    before, after = (
        float(busy_s[part].sum() / done[part].sum()) for part in (slice(half), slice(half, None))
    )
    return kendall_p(busy_s / done), after / before - 1 if before > 0 else 0.0


def _unlike_the_rest(values: Floats) -> int:
    """How many windows at the start, one after another, lie outside of where the last half lies."""
    rest = values[len(values) // 2 :]
    middle = float(np.median(rest))
    spread = 1.4826 * float(np.median(np.abs(rest - middle)))
    alike = np.abs(values - middle) <= max(3 * spread, DRIFT_FRACTION * middle)
    return int(np.argmax(alike))


def kendall_p(values: Floats) -> float:
    """The chance of such a trend without one: Kendall's rank test against time, two-sided.

    Normal approximation with the variance for ties (Kendall, Rank Correlation Methods, 4.5).
    """
    count = len(values)
    signs = np.sign(values[None, :] - values[:, None])
    score = float(np.triu(signs, 1).sum())
    tied = np.unique(values, return_counts=True)[1].astype(np.float64)
    variance = count * (count - 1) * (2 * count + 5) - (tied * (tied - 1) * (2 * tied + 5)).sum()
    if variance <= 0:
        return 1.0
    return math.erfc(abs(score) / math.sqrt(variance / 18) / math.sqrt(2))


def theil_sen_slope(values: Floats, places: Floats | None = None) -> float:
    """The median of the slopes of all pairs, per place (Sen 1968); one after another if not given.

    ``places`` ascend, and no two are the same.
    """
    where = np.arange(len(values)) if places is None else places
    first, second = np.triu_indices(len(values), 1)
    return float(np.median((values[second] - values[first]) / (where[second] - where[first])))
