"""All figures of a comparison by slices, judged together: intervals, and what may be claimed.

Slices of one pair of processes share whatever these processes differ by and what the machine did
meanwhile; pairs of fresh processes do not. So each pair counts once, and slices only make it exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inferload.stats.intervals import student_t
from inferload.stats.pairs import LEAST_CLAIM_LOG

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: The chance that anything at all is claimed of equals.
ERROR = 0.05
# A difference that is as large as detectable is found in nine of ten cases at least. The spread of
# recorded noise changes as it goes on: what is found in 0.9 of normal draws is found in 0.89 to
# 0.95 of it (tests/statistical/test_recorded_noise.py).
_STATED_POWER = 0.92
#: Fewer pairs of processes say nothing of how pairs differ.
FEWEST_PROCESS_PAIRS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class SlicedRatio:
    """B over A: the geometric mean over pairs of processes, and its interval.

    ``error_log``: the standard error of its logarithm. ``p``: the chance of such a ratio between
    equals. ``claimed``: whether it differs, with all figures of the comparison held together.
    ``detectable_log``: the logarithm of the smallest ratio that is found in nine of ten cases.
    """

    pairs: int
    value: float
    low: float
    high: float
    error_log: float
    p: float
    claimed: bool
    detectable_log: float


def judged_together(
    logs: Mapping[str, Sequence[float]], level: Callable[[float], float] = lambda error: error
) -> dict[str, SlicedRatio]:
    """Judge figures by their log ratios, one of each pair of processes.

    ``level``: at which a test must be made now, that errs with a given chance over all looks that
    there may be. What is claimed keeps ``ERROR`` for all figures together, by Holm's procedure.

    Raises:
        ValueError: there are fewer than two pairs, or figures have different numbers of them.
    """
    counts = {len(one) for one in logs.values()}
    if len(counts) != 1 or min(counts) < 2:
        raise ValueError(f"{sorted(counts)} pairs: two or more are needed, and the same of all")
    (count,) = counts
    means = {name: float(np.mean(one)) for name, one in logs.items()}
    errors = {name: float(np.std(one, ddof=1)) / math.sqrt(count) for name, one in logs.items()}
    chances = {name: _chance(means[name], errors[name], count) for name in logs}
    claimed = holm(chances, level)
    half = _t(level(ERROR), count)
    strict = _t(level(ERROR / len(logs)), count)  # what the first of Holm's tests asks for
    found = {}
    for name in logs:
        middle, error = means[name], errors[name]
        found[name] = SlicedRatio(
            pairs=count,
            value=math.exp(middle),
            low=math.exp(middle - half * error),
            high=math.exp(middle + half * error),
            error_log=error,
            p=chances[name],
            claimed=name in claimed and abs(middle) > LEAST_CLAIM_LOG,
            detectable_log=max(strict * error, LEAST_CLAIM_LOG) + _power(count) * error,
        )
    return found


def holm(
    chances: Mapping[str, float], level: Callable[[float], float] = lambda error: error
) -> set[str]:
    """Which hypotheses are rejected, so that any true one is with the chance ``ERROR`` at most.

    Holm (1979).

    >>> sorted(holm({"p50": 0.02, "p99": 0.04, "throughput": 0.001}))
    ['p50', 'p99', 'throughput']
    >>> sorted(holm({"p50": 0.03, "p99": 0.04, "throughput": 0.001}))
    ['throughput']
    """
    rejected: set[str] = set()
    for place, name in enumerate(sorted(chances, key=lambda one: chances[one])):
        if chances[name] > level(ERROR / (len(chances) - place)):
            break
        rejected.add(name)
    return rejected


def chance_beyond(mean_log: float, error_log: float, edge_log: float, pairs: int) -> float:
    """The chance of a mean so far beyond an edge, were the truth at the edge; one-sided."""
    from scipy import stats

    if error_log == 0:
        return 0.0 if mean_log > edge_log else 1.0
    return float(stats.t.sf((mean_log - edge_log) / error_log, pairs - 1))


def half_width_log(error_log: float, level: float, pairs: int) -> float:
    """Half of the interval of a logarithm, at a two-sided level."""
    return _t(level, pairs) * error_log


def _chance(mean: float, error: float, count: int) -> float:
    return min(2 * chance_beyond(abs(mean), error, 0.0, count), 1.0)


def _t(level: float, count: int) -> float:
    from scipy import stats

    if level == ERROR:
        return student_t(count - 1)
    return float(stats.t.isf(level / 2, count - 1))


def _power(count: int) -> float:
    from scipy import stats

    return float(stats.t.ppf(_STATED_POWER, count - 1))
