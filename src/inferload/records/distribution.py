"""Pure data: what a sample of durations looks like, and how well its figures are known."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from inferload.log.arrays import Floats, Int64s


QUOTED_QUANTILES = {
    "p50": 0.5,
    "p90": 0.9,
    "p95": 0.95,
    "p99": 0.99,
    "p999": 0.999,
    "p9999": 0.9999,
}


def quantile_rank(q: float, count: int) -> int:
    """The rank, from 1, of the q-quantile among ``count`` values: ceil(q n), at least 1.

    q n is rounded to 9 decimals first, so that 0.07 x 100 is 7 and not 8.
    """
    return min(max(math.ceil(round(q * count, 9)), 1), count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure with its interval; ``low`` and ``high`` are ``None`` where none was computed."""

    value: float
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    method: str


def half_width_fraction(estimate: Estimate | None) -> float | None:
    """Half of an estimate's interval as a fraction of its value, where it has both."""
    if estimate is None or estimate.low is None or estimate.high is None or not estimate.value:
        return None
    return (estimate.high - estimate.low) / 2 / estimate.value


@runtime_checkable
class Sample(Protocol):
    """The durations behind a distribution, raw or counted."""

    def value_of_rank_ms(self, rank: int) -> float:
        """The value of a rank, from 1."""

    def histogram(self, edges_ms: Floats) -> Int64s:
        """How many values lie between each two edges; the last edge is within."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """What a sample of durations looks like, in the unit its name in ``Summary`` says.

    Every quantile is the value of rank ceil(q n), without interpolation, with a 95 % interval by
    batch means. It is ``None`` where the calls are too few to quote it, or so many did not finish
    that it lies among those; ``more_calls[name]`` says how many more calls it would have needed.
    ``not_quoted``: why none is, however many the calls: ``"overloaded"`` where their queue grew
    through the run, so that they say how long it lasted. ``count`` includes the ``unfinished``
    calls, which rank above all others; ``mean``, ``min`` and ``max`` are of those that finished.
    ``counted``: values are known to 0.1 % only.
    """

    __pydantic_config__: ClassVar[dict[str, bool]] = {"arbitrary_types_allowed": True}

    count: int
    mean: float
    min: float
    max: float
    p50: Estimate | None
    p90: Estimate | None
    p95: Estimate | None
    p99: Estimate | None
    p999: Estimate | None
    p9999: Estimate | None
    more_calls: dict[str, int] = field(default_factory=dict)
    unfinished: int = 0
    counted: bool = False
    not_quoted: str | None = None
    sample: Sample | None = field(default=None, repr=False, compare=False)

    @property
    def may_be_quoted(self) -> bool:
        """Whether its quantiles are quoted, or would be of more calls."""
        return self.p50 is not None or "p50" in self.more_calls

    def quantile(self, q: float) -> float:
        """The value of rank ceil(q n), whatever the size of the sample.

        Raises:
            ValueError: ``q`` is not within 0..1, it lies among calls that did not finish, or the
                sample itself is not at hand.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"quantile {q} is not within 0..1")
        if self.sample is None:
            raise ValueError("the values behind this distribution were not kept")
        rank = quantile_rank(q, self.count)
        if rank > self.count - self.unfinished:
            raise ValueError(f"quantile {q} lies among the {self.unfinished} unfinished calls")
        return self.sample.value_of_rank_ms(rank)
