"""Whether calls certify that a quantile of the response time is under a limit.

One rule for all who ask: ``il.certificate``, limits, and the search for a rate.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from inferload.records.distribution import QUOTED_QUANTILES, quantile_rank
from inferload.records.figures import Certificate
from inferload.stats.intervals import CERTIFICATE_RISK, calls_per_independent_one, calls_to_certify
from inferload.stats.parts import part_of

if TYPE_CHECKING:
    from inferload.records.result import RunResult
    from inferload.stats.durations import Durations


def certificate(result: RunResult, quantile: str, limit_ms: float) -> Certificate:
    """Whether a run certifies that a quantile of the response time is under a limit.

    Calls that failed or never finished are over any limit, and a run whose queue grew certifies
    none.

    Raises:
        ValueError: the quantile has no such name, or the limit is no number above 0.
    """
    if not 0 < limit_ms < math.inf:
        raise ValueError(f"limit_ms is {limit_ms!r}: it must be more than 0, and finite")
    if quantile not in QUOTED_QUANTILES:
        raise ValueError(f"quantile {quantile!r} is unknown: {', '.join(QUOTED_QUANTILES)}")
    q, summary = QUOTED_QUANTILES[quantile], result.summary
    durations = part_of(result.log, summary.from_s).durations("response_ns")
    lost = summary.unfinished_calls + summary.failed_calls
    return certificate_of(durations, q, limit_ms, lost, overloaded=summary.overload is not None)


def certificate_of(
    durations: Durations | None,
    q: float,
    limit_ms: float,
    lost: int = 0,
    risk: float = CERTIFICATE_RISK,
    *,
    overloaded: bool = False,
) -> Certificate:
    """Certify by MLPerf's early-stopping bound, ``lost`` more calls being over the limit.

    The bound is of independent calls, so calls, and those over the limit, are divided by how many
    are worth an independent one.
    """
    if durations is None:
        return Certificate(
            calls=lost,
            over=lost,
            needed_calls=calls_to_certify(q, lost, risk),
            overloaded=overloaded,
        )
    late, calls = int(durations.exceeding(limit_ms)[0].sum()) + lost, durations.count + lost
    tau = calls_worth_one(durations, q, limit_ms)
    return Certificate(
        calls=calls,
        over=late,
        needed_calls=math.ceil(calls_to_certify(q, math.ceil(late / tau), risk) * tau),
        calls_worth_one=tau,
        overloaded=overloaded,
    )


def calls_worth_one(durations: Durations, q: float, limit_ms: float) -> float:
    """How many calls are worth one independent call: at the limit, at the quantile and at p90.

    The largest of these, because few calls beyond a limit do not show how they are correlated
    there; and of batches as they are, of twice and of four times their length, because of few calls
    the shorter ones are not longer than what correlates them.
    """
    found = 1.0
    ranks = [quantile_rank(other, durations.count) for other in (q, 0.9)]
    for value_ms in (limit_ms, *map(durations.value_of_rank_ms, ranks)):
        over, sizes = durations.exceeding(value_ms)
        share = 1 - float(over.sum()) / durations.count
        for length in (1, 2, 4):
            starts = np.arange(0, len(over), length)
            found = max(
                found,
                calls_per_independent_one(
                    np.add.reduceat(over, starts), np.add.reduceat(sizes, starts), share
                ),
            )
    return found
