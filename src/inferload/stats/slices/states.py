"""How long a machine keeps its pace, as slices of calls see it."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

import numpy as np

from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from inferload.stats.slices.slice import Slice

_FEWEST = 16
# Slices this much alike are of one state.
_ALIKE = 0.5


def state_s(slices: Mapping[str, Sequence[Slice]]) -> float | None:
    """How far apart slices are still alike, in seconds; ``None`` where neighbours are not.

    By the autocorrelation of the logarithms of their rates, each side about its own mean.
    """
    if not all(slices.values()):
        return None
    marks: list[tuple[int, float]] = []
    for own in slices.values():
        logs = np.log([max(one.items_per_s, 1e-12) for one in own])
        marks += zip([one.began_ns for one in own], (logs - logs.mean()).tolist(), strict=True)
    if len(marks) < _FEWEST:
        return None
    marks.sort()
    values = np.array([value for _, value in marks])
    values -= values.mean()
    power = float(values @ values)
    if not power:
        return None
    each_s = (marks[-1][0] - marks[0][0]) / (len(marks) - 1) / NS_PER_S
    farthest = len(values) // 2
    alike = (float(values[lag:] @ values[:-lag]) / power >= _ALIKE for lag in range(1, farthest))
    lasted = sum(1 for _ in takewhile(bool, alike))
    return each_s * (lasted + 1) if lasted else None
