"""Several runs of one kind, put together as one service."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from inferload.records.distribution import Estimate
from inferload.stats.intervals import student_t
from inferload.stats.service import LEVELS, values_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.log.arrays import Floats
    from inferload.stats.service import ServiceProfile

#: Values of equal likelihood that calls are drawn from.
VALUES = 4096
_FEWEST_RUNS = 3


def together(profiles: Sequence[ServiceProfile]) -> ServiceProfile:
    """Profiles of several runs of one kind as one."""
    if len(profiles) == 1:
        return profiles[0]
    calls = np.array([one.calls for one in profiles], np.float64)
    means = np.array([one.mean_ms.value for one in profiles])
    mean = float(np.average(means, weights=calls))
    counts = np.maximum(np.rint(VALUES * calls / calls.sum()), 1).astype(np.int64)
    values = np.concatenate(
        [values_of(np.array(one.shape), n) for one, n in zip(profiles, counts, strict=True)]
    )
    alike = len({len(one.factors) for one in profiles}) == 1
    factors = np.average([one.factors for one in profiles], axis=0, weights=calls) if alike else [1]
    shares = np.average([one.shares for one in profiles], axis=0, weights=calls) if alike else [1]
    window_s, speeds = _speeds(profiles, mean)
    return replace(
        profiles[0],
        calls=int(calls.sum()),
        mean_ms=_mean_of(mean, means, profiles),
        shape=tuple(np.quantile(values, LEVELS).tolist()),
        factors=tuple(float(one) for one in factors),
        shares=tuple(float(one) for one in shares),
        speeds=tuple(speeds.tolist()),
        window_s=window_s,
    )


def _speeds(profiles: Sequence[ServiceProfile], mean: float) -> tuple[float | None, Floats]:
    """The speeds of all runs one after another, in windows of one length; 1 in the mean."""
    known = [one for one in profiles if one.window_s is not None]
    if not known:
        return None, np.ones(0)
    window_s = min(one.window_s or math.inf for one in known)
    parts = []
    for one in known:
        count = max(round(len(one.speeds) * (one.window_s or window_s) / window_s), 1)
        place = np.arange(count) * len(one.speeds) // count
        parts.append(np.array(one.speeds)[place] * mean / one.mean_ms.value)
    speeds = np.concatenate(parts)
    return window_s, speeds / speeds.mean()


def _mean_of(mean: float, means: Floats, profiles: Sequence[ServiceProfile]) -> Estimate:
    """The mean of several runs, with what they differ by; of two, what either may be."""
    if len(means) >= _FEWEST_RUNS:
        logs = np.log(means)
        half = student_t(len(means) - 1) * float(logs.std(ddof=1)) / math.sqrt(len(means))
        return Estimate(
            value=mean,
            low=mean * math.exp(-half),
            high=mean * math.exp(half),
            confidence=0.95,
            method=f"mean of {len(means)} runs",
        )
    ends = [one.mean_ms for one in profiles]
    lows = [one.value if one.low is None else one.low for one in ends]
    highs = [one.value if one.high is None else one.high for one in ends]
    return Estimate(value=mean, low=min(lows), high=max(highs), method="range of two runs")
