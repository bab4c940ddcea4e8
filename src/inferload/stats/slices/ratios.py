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


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFigure:
    """A figure of both sides of a pair of processes, items/s or milliseconds.

    ``log_ratio``: the logarithm of B / A, the trimmed mean over ``groups`` of slices.
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
    rates = [np.array([one.items_per_s for one in side]) for side in (a, b)]
    found = [_figure("throughput", *rates)]
    for name, q in QUANTILES.items():
        groups = _groups(a, b, fewest_calls(q))
        if not groups:
            break
        values = [
            np.array([quantile_ns(side[one], q) / NS_PER_MS for one in groups]) for side in (a, b)
        ]
        found.append(_figure(name, *values))
    return tuple(found)


def _figure(name: str, a: Floats, b: Floats) -> PairFigure:
    logs = np.log(np.maximum(a, 1e-12)), np.log(np.maximum(b, 1e-12))
    return PairFigure(
        figure=name,
        a=math.exp(float(logs[0].mean())),
        b=math.exp(float(logs[1].mean())),
        log_ratio=middle(logs[1] - logs[0]),
        groups=len(a),
    )


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
