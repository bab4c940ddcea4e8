"""Figures from a call log. numpy only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from inferload.records import (
    QUOTED_QUANTILES,
    CallLog,
    Distribution,
    Estimate,
    Sample,
    Summary,
    quantile_rank,
)
from inferload.units import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence


def calls_to_quote(q: float) -> int:
    """The fewest calls whose order statistics bound the q-quantile at two-sided 95 %.

    That is the smallest n with max(q, 1-q)^n <= 0.025 (Hahn & Meeker, Statistical Intervals).

    >>> [calls_to_quote(q) for q in (0.9, 0.95, 0.99, 0.999, 0.9999)]
    [36, 72, 368, 3688, 36887]
    """
    return math.ceil(math.log(0.025) / math.log(max(q, 1 - q)))


def summarize(log: CallLog, items_per_input: Sequence[int]) -> Summary:
    """Compute a run's summary; failed calls are counted but not timed."""
    completed = log.completed
    count = int(np.count_nonzero(completed))
    duration_s = float(log.finished_ns.max()) / NS_PER_S if len(log) else 0.0
    calls_by_input = np.bincount(log.input[completed], minlength=len(items_per_input))
    items = int(calls_by_input @ np.asarray(items_per_input, np.int64))
    waited = not np.array_equal(log.scheduled_ns, log.started_ns)
    service = distribution_ms(log, "service_ns")
    return Summary(
        completed_calls=count,
        failed_calls=len(log) - count,
        duration_s=duration_s,
        throughput_calls_per_s=rate(count, duration_s),
        throughput_items_per_s=rate(items, duration_s),
        response_ms=distribution_ms(log, "response_ns") if waited else service,
        service_ms=service,
        queue_ms=distribution_ms(log, "queue_ns"),
    )


def rate(count: int, duration_s: float) -> Estimate:
    """Count per second of the run."""
    value = count / duration_s if duration_s > 0 else 0.0
    return Estimate(value=value, method="count / duration")


def distribution_ms(log: CallLog, duration: str) -> Distribution | None:
    """Summarize one duration of the calls that returned, in milliseconds; ``None`` of no calls.

    ``duration`` is ``"response_ns"``, ``"service_ns"`` or ``"queue_ns"``.
    """
    ascending = log.ascending_ns(duration)
    count = len(ascending)
    if count == 0:
        return None
    quoted = {
        name: Estimate(
            value=float(ascending[quantile_rank(q, count) - 1]) / NS_PER_MS,
            method="rank ceil(q n)",
        )
        if count >= calls_to_quote(q)
        else None
        for name, q in QUOTED_QUANTILES.items()
    }
    return Distribution(
        count=count,
        mean=float(ascending.mean()) / NS_PER_MS,
        min=float(ascending[0]) / NS_PER_MS,
        max=float(ascending[-1]) / NS_PER_MS,
        sample=Sample(log, duration),
        **quoted,
    )
