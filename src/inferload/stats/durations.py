"""Durations of calls in the order of time: every single one, or counted by window."""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import numpy as np

from inferload.log import buckets as hdr
from inferload.stats.intervals import BATCHES
from inferload.units import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from inferload.log.arrays import Floats, Int64s
    from inferload.log.calls import CallTally


class Durations(Protocol):
    """Durations of calls that returned, in contiguous batches of time."""

    count: int
    counted: bool

    @property
    def mean_ms(self) -> float:
        """The mean."""

    @property
    def min_ms(self) -> float:
        """The least."""

    @property
    def max_ms(self) -> float:
        """The largest."""

    def value_of_rank_ms(self, rank: int) -> float:
        """The value of a rank, from 1."""

    def let_go(self) -> None:
        """Give back what can be computed again, should it be needed once more."""

    def exceeding(self, value_ms: float) -> tuple[Int64s, Int64s]:
        """For each batch, how many calls took longer than a value, and how many there are."""

    def histogram(self, edges_ms: Floats) -> Int64s:
        """How many values lie between each two edges; the last edge is within."""


class RawDurations:
    """Every single duration.

    ``values`` gives them in nanoseconds, in the order of time; it is called when they are first
    needed, because a report that is drawn again needs few of them.
    """

    counted = False

    def __init__(self, count: int, values: Callable[[], Int64s]) -> None:
        self.count = count
        self._values = values
        self._known: dict[int, float] = {}

    @classmethod
    def of(cls, values_ns: Int64s) -> RawDurations:
        """Of values that are at hand."""
        return cls(len(values_ns), lambda: values_ns)

    @cached_property
    def _values_ns(self) -> Int64s:
        return self._values()

    @cached_property
    def mean_ms(self) -> float:
        """The mean."""
        return float(self._values_ns.mean()) / NS_PER_MS

    @cached_property
    def min_ms(self) -> float:
        """The least."""
        return float(self._values_ns.min()) / NS_PER_MS

    @cached_property
    def max_ms(self) -> float:
        """The largest."""
        return float(self._values_ns.max()) / NS_PER_MS

    @cached_property
    def _ascending_ns(self) -> NDArray[np.integer]:
        values = self._values_ns
        if values.min() >= 0 and values.max() < 2**32:  # of less than 4.3 s, in half of the memory
            found: NDArray[np.integer] = values.astype(np.uint32)
        else:
            found = values.copy()
        found.sort()
        return found

    def let_go(self) -> None:
        """Give back the values, and those in their order."""
        for name in ("_values_ns", "_ascending_ns"):
            self.__dict__.pop(name, None)

    def value_of_rank_ms(self, rank: int) -> float:
        """The value of a rank, from 1."""
        if rank not in self._known:
            self._known[rank] = float(self._ascending_ns[rank - 1]) / NS_PER_MS
        return self._known[rank]

    def exceeding(self, value_ms: float) -> tuple[Int64s, Int64s]:
        """For each of 40 batches of equally many calls."""
        edges = np.linspace(0, self.count, min(BATCHES, self.count) + 1).astype(np.int64)
        over = self._values_ns > round(value_ms * NS_PER_MS)
        counts = [np.count_nonzero(over[a:b]) for a, b in pairwise(edges)]
        return np.array(counts, np.int64), np.diff(edges)

    def histogram(self, edges_ms: Floats) -> Int64s:
        """How many values lie between each two edges; the last edge is within."""
        return np.histogram(self._ascending_ns / NS_PER_MS, edges_ms)[0]


class CountedDurations:
    """Durations counted by time window, from window ``from_window`` on."""

    counted = True

    def __init__(self, tally: CallTally, name: str, from_window: int = 0) -> None:
        self._windows = tally.counts[name].since(from_window)
        self.count = self._windows.total
        total_ns = tally.sums[name][from_window:].sum()
        self.mean_ms = float(total_ns) / max(self.count, 1) / NS_PER_MS
        if from_window == 0:
            self.min_ms, self.max_ms = tally.lows[name] / 1e6, tally.highs[name] / 1e6
        else:
            used = np.flatnonzero(self._all)
            self.min_ms, self.max_ms = (self._middles_ms[used[place]] for place in (0, -1))

    def let_go(self) -> None:
        """Nothing: counts take little memory."""

    @cached_property
    def _all(self) -> Int64s:
        return self._windows.by_bucket()

    @cached_property
    def _middles_ms(self) -> Floats:
        return hdr.middles_ns() / NS_PER_MS

    def value_of_rank_ms(self, rank: int) -> float:
        """The middle of the bucket in which the rank, from 1, lies: within 0.05 %."""
        found = hdr.value_of_rank(self._all, rank) / NS_PER_MS
        return min(max(found, self.min_ms), self.max_ms)

    def exceeding(self, value_ms: float) -> tuple[Int64s, Int64s]:
        """For each time window."""
        bucket = int(hdr.bucket_of(np.array([round(value_ms * NS_PER_MS)]))[0])
        return self._windows.by_window(bucket), self._windows.by_window()

    def medians_ms(self) -> Floats:
        """The median of each time window that has calls."""
        return self._windows.medians_ns() / NS_PER_MS

    def histogram(self, edges_ms: Floats) -> Int64s:
        """How many values lie between each two edges; the last edge is within."""
        inside = np.clip(self._middles_ms, edges_ms[0], edges_ms[-1])
        found = np.histogram(inside, edges_ms, weights=self._all)[0]
        return found.astype(np.int64)
