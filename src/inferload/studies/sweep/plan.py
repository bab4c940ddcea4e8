"""What a sweep runs, and in which order."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from inferload.errors import PlanError
from inferload.studies.bench import check_settings
from inferload.studies.records.settings import Settings

if TYPE_CHECKING:
    from inferload.plan.options import RunOptions

MOST_AXES, MOST_POINTS = 2, 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPlan:
    """What a sweep runs.

    Raises:
        PlanError: it has fewer than two points, more than two axes, or a point that cannot be run.
    """

    target: str
    asked: dict[str, Any]
    options: RunOptions
    axes: dict[str, tuple[Any, ...]]
    blocks: int = 3

    def __post_init__(self) -> None:
        varied = [name for name, values in self.axes.items() if len(values) > 1]
        if not varied:
            raise PlanError(
                "a sweep needs two points or more, and every setting has one value: give several, "
                "such as --callers 1..8"
            )
        if len(varied) > MOST_AXES:
            raise PlanError(
                f"a sweep varies one thing or two, and {', '.join(varied)} have several values: "
                "give one value to all but two"
            )
        for name, values in self.axes.items():
            if len(set(values)) < len(values):
                raise PlanError(f"{name} {', '.join(map(str, values))} name a value twice")
        if len(self.points) > MOST_POINTS:
            raise PlanError(
                f"a sweep of {len(self.points):,} points is too long: give fewer values"
            )
        for point in self.points:
            check_settings(self.options, point)

    @property
    def points(self) -> list[Settings]:
        """Every combination of the values of the axes."""
        return [
            Settings(**dict(zip(self.axes, values, strict=True)))
            for values in itertools.product(*self.axes.values())
        ]

    @property
    def order(self) -> list[tuple[int, Settings]]:
        """Block by block, which point is run when."""
        points = self.points
        return [
            (block, points[place])
            for block in range(self.blocks)
            for place in np.random.default_rng([self.options.seed, block]).permutation(len(points))
        ]
