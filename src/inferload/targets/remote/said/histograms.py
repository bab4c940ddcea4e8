"""Quantiles from the buckets of a histogram."""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def quantile_of(buckets: Mapping[float, float], q: float) -> float | None:
    """A quantile from cumulative counts by upper edges, of which the last is infinite.

    Within a bucket linear, and the first one begins at 0, as histogram_quantile has it
    (https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile). ``None``:
    it lies beyond the last finite edge, or nothing was counted.

    >>> quantile_of({1.0: 50, 2.0: 100, math.inf: 100}, 0.75)
    1.5
    >>> quantile_of({1.0: 50, math.inf: 100}, 0.75) is None
    True
    """
    edges = sorted(buckets)
    # buckets are read one after another while requests go on: none may fall below the one before
    counts = [*accumulate((buckets[edge] for edge in edges), max)]
    if not counts or counts[-1] <= 0 or edges[-1] != math.inf:
        return None
    rank = q * counts[-1]
    number = bisect_left(counts, rank)
    edge = edges[number]
    if edge == math.inf:
        return None
    if number == 0 and edge <= 0:
        return edge
    below, low = (counts[number - 1], edges[number - 1]) if number else (0.0, 0.0)
    inside = counts[number] - below
    return low + (edge - low) * (rank - below) / inside if inside else edge
