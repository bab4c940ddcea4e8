"""Goodput: calls per second of those that kept every limit of a duration, each by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inferload.errors import PlanError
from inferload.log.calls import NO_STAGE
from inferload.units import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.log.calls import CallLog
    from inferload.stats.limits.limit import Limit

# By which duration of its own a call keeps a limit: of gaps by their mean, as vLLM's goodput has
# it, because single gaps are known of a sample of calls alone.
_OWN = {"response": "response_ns", "first": "first_response_ns", "gap": "call_gap_ns"}


def goodput_per_s(log: CallLog, limits: Sequence[Limit], from_s: float, duration_s: float) -> float:
    """Calls that returned after ``from_s`` and kept the limits, per second of ``duration_s``.

    A call without a second piece has no gap, and keeps limits of gaps; one without any has no first
    piece, and keeps no limit of that.
    """
    kept = log.completed & (log.finished_ns > round(from_s * NS_PER_S))
    for limit in limits:
        if limit.quantile is None:
            continue
        if limit.of != "response" and not log.answers:  # of no calls
            return 0.0
        values = log.duration_ns(_OWN[limit.of])
        kept &= values <= limit.bound * NS_PER_MS
        if limit.of == "first":
            kept &= values != NO_STAGE
    one_in = 1 if log.tally is None else log.tally.sampled_one_in
    return int(np.count_nonzero(kept)) * one_in / duration_s if duration_s > 0 else 0.0


def check_of_pieces(limits: Sequence[Limit], *, in_pieces: bool) -> None:
    """Refuse limits of what calls do not have, where they do not answer ``in_pieces``.

    Raises:
        PlanError: naming the limit.
    """
    asked = [one for one in limits if one.of != "response"]
    if asked and not in_pieces:
        raise PlanError(
            f"the limit {asked[0]} is of answers in pieces, and calls answered whole: have the "
            "model yield its pieces, or limit the whole response (p99<=200ms)"
        )
