"""Counts of durations in the layout of HdrHistogram, 3 significant digits, 1 ns to 1 h.

Values below 2048 ns have a bucket each; above, every power of two is cut into 1024 buckets, so that
a bucket's middle is within 1/2048 of every value in it. Layout: Gil Tene's HdrHistogram, lowest
discernible value 1, highest trackable value 3.6e12.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self

    from inferload.log.arrays import Floats, Int64s

BUCKETS = 33_792
HIGHEST_NS = 3_600_000_000_000
_HALF = 1024


def bucket_of(values_ns: Int64s) -> Int64s:
    """The bucket of each value; values outside 0..1 h go into the first or last.

    >>> bucket_of(np.array([0, 2047, 2048, 2049, 4096, 10**13])).tolist()
    [0, 2047, 2048, 2048, 3072, 33420]
    """
    values = np.clip(values_ns, 0, HIGHEST_NS)
    # the exponent of a double is exact here (1 h has 42 bits), and read from its bits in half the
    # time that frexp takes; it is 1023 + 11 for 2048, the first value of a bucket of two
    exponent = values.astype(np.float64).view(np.int64) >> 52
    power = np.maximum(exponent - (1023 + 10), 0)
    found: Int64s = power * _HALF + (values >> power)
    return found


def counts_of(values_ns: Int64s) -> Int64s:
    """How many values fall into each bucket; shape ``(BUCKETS,)``."""
    return np.bincount(bucket_of(values_ns), minlength=BUCKETS)


def middles_ns() -> Floats:
    """The middle of each bucket, in nanoseconds; shape ``(BUCKETS,)``."""
    bucket = np.arange(BUCKETS, dtype=np.int64)
    power = np.maximum(bucket // _HALF - 1, 0)
    low = (bucket - power * _HALF) << power
    middles: Floats = low + ((1 << power) - 1) / 2
    return middles


def bounds_ns(bucket: int) -> tuple[int, int]:
    """The lowest value of a bucket, and how many values it has.

    >>> bounds_ns(2047), bounds_ns(3072)
    ((2047, 1), (4096, 4))
    """
    power = max(bucket // _HALF - 1, 0)
    return (bucket - power * _HALF) << power, 1 << power


def highest_ns() -> Int64s:
    """The highest value of each bucket, in nanoseconds; shape ``(BUCKETS,)``."""
    bucket = np.arange(BUCKETS, dtype=np.int64)
    power = np.maximum(bucket // _HALF - 1, 0)
    highest: Int64s = ((bucket - power * _HALF + 1) << power) - 1
    return highest


def value_of_rank(counts: NDArray[np.integer], rank: int) -> float:
    """The value of a rank, from 1, among counted values: the middle of its bucket."""
    bucket = int(np.searchsorted(np.cumsum(counts), rank))
    return float(middles_ns()[bucket])


@dataclass(frozen=True, slots=True, eq=False)
class WindowCounts:
    """Counts by time window and bucket, of which only those above 0 are kept.

    ``cells`` are ``window * BUCKETS + bucket``, ascending, int64; ``counts``, int64 of the same
    shape, say how many values each holds. There are ``windows`` windows, empty ones included.
    """

    windows: int
    cells: Int64s
    counts: Int64s

    @classmethod
    def of(cls, dense: NDArray[np.integer]) -> Self:
        """From counts of shape ``(windows, BUCKETS)``."""
        flat = dense.reshape(-1)
        cells = np.flatnonzero(flat)
        return cls(len(dense), cells, flat[cells].astype(np.int64))

    def since(self, window: int) -> WindowCounts:
        """The windows from one on, numbered from 0."""
        first = int(np.searchsorted(self.cells, window * BUCKETS))
        return WindowCounts(
            max(self.windows - window, 0),
            self.cells[first:] - window * BUCKETS,
            self.counts[first:],
        )

    @property
    def total(self) -> int:
        """How many values there are."""
        return int(self.counts.sum())

    def by_bucket(self) -> Int64s:
        """Counts of all windows together; shape ``(BUCKETS,)``."""
        found = np.zeros(BUCKETS, np.int64)
        np.add.at(found, self.cells % BUCKETS, self.counts)
        return found

    def by_window(self, above_bucket: int = -1) -> Int64s:
        """How many values of each window lie above a bucket; shape ``(windows,)``."""
        found = np.zeros(self.windows, np.int64)
        above = self.cells % BUCKETS > above_bucket
        np.add.at(found, self.cells[above] // BUCKETS, self.counts[above])
        return found

    def medians_ns(self) -> Floats:
        """The median of each window that has values: the middle of its bucket."""
        calls = self.by_window()
        calls = calls[calls > 0]
        before = np.cumsum(calls) - calls
        # windows follow each other, so that ranks of all values together are ranks within one
        places = np.searchsorted(np.cumsum(self.counts), before + (calls + 1) // 2)
        medians: Floats = middles_ns()[self.cells[places] % BUCKETS]
        return medians
