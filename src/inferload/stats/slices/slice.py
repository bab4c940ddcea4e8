"""What the calls of one slice came to: how many a second, and how long each took."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inferload.log.buckets import bounds_ns, bucket_of, middles_ns
from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

    from inferload.log.arrays import Int64s
    from inferload.stats.slices.used import Used


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slice:
    """The calls of one side for a moment, in a closed loop.

    ``began_ns``: when, by the monotonic clock. ``items_per_s``: of all callers together, each from
    the first call of any until its own last one finished. ``calls`` have completed, ``failed`` have
    not. ``buckets``: those of :mod:`inferload.log.buckets` that response times fell into,
    ascending, int64, and ``counts``, int64 of the same shape, how many into each. ``used``: what
    the process used meanwhile, where that was looked at.
    """

    began_ns: int
    items_per_s: float
    calls: int
    failed: int
    buckets: Int64s
    counts: Int64s
    used: Used | None = None

    @classmethod
    def of(
        cls,
        began_ns: int,
        caller: Int64s,
        items: Int64s,
        started_ns: Int64s,
        finished_ns: Int64s,
        *,
        failed: int = 0,
        used: Used | None = None,
    ) -> Self:
        """From the completed calls, each with its caller and its items; all of one shape."""
        buckets, counts = np.unique(bucket_of(finished_ns - started_ns), return_counts=True)
        return cls(
            began_ns=began_ns,
            items_per_s=per_second(caller, items, started_ns, finished_ns),
            calls=len(caller),
            failed=failed,
            buckets=buckets,
            counts=counts.astype(np.int64),
            used=used,
        )

    @property
    def mean_s(self) -> float:
        """The mean response time, in seconds."""
        whole_ns = float(middles_ns()[self.buckets] @ self.counts)
        return whole_ns / max(self.calls, 1) / NS_PER_S


def per_second(caller: Int64s, items: Int64s, started_ns: Int64s, finished_ns: Int64s) -> float:
    """Items per second of all callers, each from the first call of any until its own last finished.

    One that comes late, because others hold the GIL, is late; one that has finished while another
    is in its last call is not at fault.
    """
    per_s, began_ns = 0.0, int(started_ns.min())
    for one in np.unique(caller):
        own = caller == one
        took_ns = int(finished_ns[own].max()) - began_ns
        per_s += float(items[own].sum()) / max(took_ns, 1) * NS_PER_S
    return per_s


def quantile_ns(slices: Sequence[Slice], q: float) -> float:
    """A quantile of the response times of slices together, in nanoseconds.

    Times are read to the nanosecond, and buckets are as wide or wider: values are taken as spread
    evenly over their bucket, or medians of quick calls would be whole numbers, and differ by that.
    """
    buckets = np.concatenate([one.buckets for one in slices])
    counts = np.concatenate([one.counts for one in slices])
    order = np.argsort(buckets, kind="stable")
    below = np.cumsum(counts[order])
    rank = q * below[-1]
    place = min(int(np.searchsorted(below, rank)), len(below) - 1)
    own = int(counts[order][place])
    low, width = bounds_ns(int(buckets[order][place]))
    return low + width * float(rank - below[place] + own) / own


def fewest_calls(q: float) -> int:
    """So many calls a quantile is told of: ten are beyond it, and ten on this side."""
    return math.ceil(round(10 / min(q, 1 - q), 6))
