"""Comparing two things measured in pairs: is there a difference, and how small a one would show.

Two runs one after the other differ by whatever the machine did meanwhile. Pairs that alternate
(ABBA) share it, so what is judged is the logarithm of each pair's ratio.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inferload.stats.intervals import student_t

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

FEWEST_PAIRS = 10
#: A difference within this is no difference worth a claim.
NEGLIGIBLE_FRACTION = 0.01
LEAST_CLAIM_LOG = math.log1p(NEGLIGIBLE_FRACTION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """B over A: the geometric mean of the pairs' ratios, with its 95 % interval.

    ``p_t`` and ``p_wilcoxon``: the chance of such a difference between equals, by Student's t test
    and by the signed-rank test. ``detectable_log``: the logarithm of the smallest ratio of which so
    many pairs would have claimed a difference in four of five cases.
    """

    pairs: int
    value: float
    low: float
    high: float
    p_t: float
    p_wilcoxon: float
    detectable_log: float

    @property
    def differs(self) -> bool:
        """Whether a difference of more than 1 % may be claimed."""
        return self.low > 1 + NEGLIGIBLE_FRACTION or self.high < 1 - NEGLIGIBLE_FRACTION


def paired_ratio(a: ArrayLike, b: ArrayLike) -> Ratio:
    """Compare positive figures of A and B, measured in alternating pairs.

    Raises:
        ValueError: there are fewer than ten pairs, or a figure is not positive.
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.shape != second.shape or first.ndim != 1 or len(first) < FEWEST_PAIRS:
        raise ValueError(f"{first.shape} and {second.shape}: ten or more pairs are needed")
    if not (first > 0).all() or not (second > 0).all():
        raise ValueError("figures must be positive to have a ratio")
    from scipy import stats

    logs = np.log(second / first)
    count, middle = len(logs), float(logs.mean())
    error = float(logs.std(ddof=1)) / math.sqrt(count)
    half = student_t(count - 1) * error
    equal = not logs.any()
    # pairs that all have one ratio, as in simulated time, leave nothing to chance
    certain = not equal and float(np.ptp(logs)) < 1e-9
    # power 80 %: the t of the test and the one-sided 80 % point of the same t
    power = float(stats.t.ppf(0.8, count - 1))
    return Ratio(
        pairs=count,
        value=math.exp(middle),
        low=math.exp(middle - half),
        high=math.exp(middle + half),
        p_t=1.0 if equal else 0.0 if certain else float(stats.ttest_1samp(logs, 0.0).pvalue),
        p_wilcoxon=1.0 if equal else float(stats.wilcoxon(logs).pvalue),
        # what is within 1 % is no claim either
        detectable_log=(max(student_t(count - 1) * error, LEAST_CLAIM_LOG) + power * error),
    )
