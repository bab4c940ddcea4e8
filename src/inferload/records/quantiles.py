"""The quantiles that are quoted, by their names, and the rank of each among calls."""

from __future__ import annotations

import math

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
