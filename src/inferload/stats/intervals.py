"""How sure a figure is: intervals by batch means, how many calls a quantile needs, certificates.

Latencies under load are autocorrelated, so an interval that takes calls for independent is too
narrow: for an M/M/1 queue at 80 % load it covers the true p99 in 17 % of runs instead of 95 %.
Batch means (Law, Simulation Modeling and Analysis, ch. 9) take the correlation in: contiguous
batches are long enough to be nearly independent of each other.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

BATCHES = 40
CONFIDENCE = 0.95
#: A quantile is quoted if so many effectively independent calls are expected beyond it.
CALLS_BEYOND = 10
CERTIFICATE_RISK = 0.01
#: The rate of fewer calls is told without digits: as for a mean, ten are needed to say how sure it
#: is, and even of calls at random times it is off by a third.
FEWEST_FOR_A_RATE = 10


def calls_to_quote(q: float) -> int:
    """The fewest calls whose order statistics bound the q-quantile at two-sided 95 %.

    That is the smallest n with max(q, 1-q)^n <= 0.025 (Hahn & Meeker, Statistical Intervals).

    >>> [calls_to_quote(q) for q in (0.9, 0.95, 0.99, 0.999, 0.9999)]
    [36, 72, 368, 3688, 36887]
    """
    return math.ceil(math.log(0.025) / math.log(max(q, 1 - q)))


def calls_per_independent_one(over: ArrayLike, sizes: ArrayLike, q: float) -> float:
    """How many calls are worth one independent call for the q-quantile; at least 1.

    ``over[k]`` of the ``sizes[k]`` calls of batch k exceed the quantile; batches are contiguous in
    time. This is tau = (n / K) Var(batch means of the indicator) / (q (1-q)), each batch weighted
    with its size.
    """
    counts, calls = np.asarray(over, np.float64), np.asarray(sizes, np.float64)
    counts, calls = counts[calls > 0], calls[calls > 0]
    batches = len(calls)
    if batches < 2 or not 0 < q < 1:
        return 1.0
    share = counts.sum() / calls.sum()
    variance = float((calls * (counts / calls - share) ** 2).sum() / (batches - 1))
    return max(1.0, variance / (q * (1 - q)))


def cautious_tau(
    exceeding: Callable[[float], tuple[ArrayLike, ArrayLike]], levels: tuple[float, float]
) -> float:
    """How many calls are worth one independent call, of too few calls to tell it at a quantile.

    ``exceeding`` gives for a value how many calls of each batch exceed it, and how many there are;
    ``levels`` are the values of p50 and p90. It is the largest that batches of one, two and four
    times the length say: short batches do not show how long calls are alike.
    """
    found = 1.0
    for q, value in zip((0.5, 0.9), levels, strict=True):
        over, sizes = (np.asarray(one, np.float64) for one in exceeding(value))
        for batches in (BATCHES, BATCHES // 2, BATCHES // 4):
            if len(sizes) >= batches:
                late, calls = (
                    [part.sum() for part in np.array_split(one, batches)] for one in (over, sizes)
                )
                found = max(found, calls_per_independent_one(late, calls, q))
    return found


def interval_ranks(count: int, q: float, tau: float, batches: int = BATCHES) -> tuple[int, int]:
    """The ranks, from 1, whose values bound the q-quantile of ``count`` calls at 95 %.

    q -/+ t sqrt(q (1-q) / n_eff) with n_eff = count / tau and batches - 1 degrees of freedom.

    >>> interval_ranks(10_000, 0.99, 1.0)
    (9880, 9920)
    """
    half = student_t(batches - 1) * math.sqrt(q * (1 - q) * tau / count)
    low, high = round(count * (q - half)), round(count * (q + half))
    return min(max(low, 1), count), min(max(high, 1), count)


def more_calls_to_quote(count: int, q: float, tau: float) -> int:
    """How many more calls the q-quantile needs before it is quoted; 0 if it can be."""
    wanted = max(calls_to_quote(q), math.ceil(round(CALLS_BEYOND * tau / (1 - q), 6)))
    return max(wanted - count, 0)


def mean_interval(values: ArrayLike) -> tuple[float, float] | None:
    """Bounds at 95 % of the mean of batch means; ``None`` of fewer than ten batches."""
    batches = np.asarray(values, np.float64)
    if len(batches) < 10:
        return None
    half = student_t(len(batches) - 1) * batches.std(ddof=1) / math.sqrt(len(batches))
    return float(batches.mean() - half), float(batches.mean() + half)


def student_t(degrees: int) -> float:
    """The two-sided 95 % point of Student's t.

    >>> round(student_t(39), 4)
    2.0227
    """
    from scipy import special  # a process with callers needs none of it, and it takes 0.15 s

    return float(special.stdtrit(max(degrees, 1), (1 + CONFIDENCE) / 2))


def calls_to_certify(q: float, over: int, risk: float = CERTIFICATE_RISK) -> int:
    """How many calls, ``over`` of them above a limit, certify that the q-quantile is under it.

    That is h + over calls for the smallest h with I(q; h, over + 1) <= the risk, I the
    regularised incomplete beta function (MLPerf LoadGen, early stopping). Calls are taken for
    independent: divide both numbers by tau first where they are not.

    >>> [calls_to_certify(q, 0) for q in (0.9, 0.99, 0.999)]
    [44, 459, 4603]
    >>> [calls_to_certify(q, 1) for q in (0.9, 0.99, 0.999)]
    [64, 662, 6636]
    """
    from scipy import special

    low, high = 0, 1
    while special.betainc(high, over + 1, q) > risk:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if special.betainc(middle, over + 1, q) > risk:
            low = middle
        else:
            high = middle
    return high + over
