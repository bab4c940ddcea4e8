"""What one pair of processes says of B against A: a ratio of each figure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inferload.stats.slices.slice import fewest_calls, quantile_ns
from inferload.units import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.log.arrays import Floats
    from inferload.stats.slices.slice import Slice

#: Of the response time; beside them throughput is compared.
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999, "p9999": 0.9999}
# So much of both ends of the slices' ratios is left out of their mean.
TRIMMED = 0.1
# What stands for no rate, or no time, in logarithms.
_NOTHING = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFigure:
    """A figure of both sides of a pair of processes, items/s or milliseconds.

    ``a`` and ``b``: of throughput the geometric mean over slices, of quantiles those of all their
    calls together. ``log_ratio``: the logarithm of B / A, the trimmed mean over ``groups`` of
    slices.
    """

    figure: str
    a: float
    b: float
    log_ratio: float
    groups: int


def pair_figures(a: Sequence[Slice], b: Sequence[Slice]) -> tuple[PairFigure, ...]:
    """Throughput, and the quantiles that there are calls for, of slices in turn.

    Raises:
        ValueError: the sides have different numbers of slices, or none.
    """
    if len(a) != len(b) or not a:
        raise ValueError(f"{len(a)} and {len(b)} slices are no pairs")
    of_a, of_b = (np.array([one.items_per_s for one in side]) for side in (a, b))
    found = [
        PairFigure(
            figure="throughput",
            a=_geometric_mean(of_a),
            b=_geometric_mean(of_b),
            log_ratio=_log_ratio(of_a, of_b),
            groups=len(a),
        )
    ]
    for name, q in QUANTILES.items():
        groups = _groups(a, b, fewest_calls(q))
        if not groups:
            break
        of_a, of_b = (np.array([quantile_ns(side[one], q) for one in groups]) for side in (a, b))
        found.append(
            PairFigure(
                figure=name,
                a=quantile_ns(a, q) / NS_PER_MS,
                b=quantile_ns(b, q) / NS_PER_MS,
                log_ratio=_log_ratio(of_a, of_b),
                groups=len(groups),
            )
        )
    return tuple(found)


def _log_ratio(a: Floats, b: Floats) -> float:
    return middle(np.log(np.maximum(b, _NOTHING)) - np.log(np.maximum(a, _NOTHING)))


def _geometric_mean(values: Floats) -> float:
    return math.exp(float(np.log(np.maximum(values, _NOTHING)).mean()))


def _groups(a: Sequence[Slice], b: Sequence[Slice], calls: int) -> list[slice]:
    """Slices that follow each other, together with so many calls of either side.

    What is left at the end goes to the last group.
    """
    ends: list[int] = []
    made = [0, 0]
    for place, (one, other) in enumerate(zip(a, b, strict=True)):
        made = [made[0] + one.calls, made[1] + other.calls]
        if min(made) >= calls:
            ends.append(place + 1)
            made = [0, 0]
    if not ends:
        return []
    ends[-1] = len(a)
    return [slice(begin, end) for begin, end in zip([0, *ends], ends, strict=False)]


def middle(values: Floats) -> float:
    """The mean of values without the tenth at each end: what a neighbour did to one slice."""
    ranked = np.sort(values)
    cut = int(len(ranked) * TRIMMED)
    return float(ranked[cut : len(ranked) - cut].mean())
