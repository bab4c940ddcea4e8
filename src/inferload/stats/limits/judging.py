"""Whether the calls of a run say that what a service promises ("p99<=20ms") is kept."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from scipy import special

from inferload.records.distribution import quantile_rank
from inferload.stats.intervals import CALLS_BEYOND, CERTIFICATE_RISK
from inferload.stats.limits.certificates import certificate_of
from inferload.stats.limits.goodput import check_of_pieces, goodput_per_s
from inferload.stats.limits.limit import Limit  # noqa: TC001 - pydantic reads these records
from inferload.stats.parts import part_of
from inferload.stats.pieces import gaps
from inferload.stats.steadiness.overload import DEVIATIONS, DEVIATIONS_OF_A_LOOK, backlog_grows
from inferload.stats.summary import quantile_ms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.log.calls import CallLog
    from inferload.stats.durations import Durations
    from inferload.stats.parts import MeasuredPart

#: What is known of a limit: kept or broken, each at a risk of 1 %, or neither.
Verdict = Literal["kept", "broken", "open"]
# Some 50 looks at this risk err in 1 of 100 runs in all.
RISK_OF_A_LOOK = 0.001
# A run that says that limits are kept lasts so many times the longest of them.
SPAN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the calls of a run say of one limit.

    ``value`` is the figure (``None`` where it lies among calls that did not finish, or the queue
    grew through the run), ``low`` and
    ``high`` its 95 % interval, ``service`` the same quantile of calls without their queue,
    ``over_fraction`` of the calls took longer than the limit, and all of them are worth so many
    ``independent_calls``. ``calls_missing``: how many more calls like these it would take to say
    that the limit is kept; ``None`` where none would.
    """

    limit: Limit
    verdict: Verdict
    value: float | None
    low: float | None = None
    high: float | None = None
    service: float | None = None
    over_fraction: float | None = None
    independent_calls: float | None = None
    calls_missing: int | None = None

    @property
    def room_fraction(self) -> float | None:
        """How far the figure is from its limit, as a fraction of it: below 0 if it is beyond."""
        if self.value is None or not self.limit.bound:
            return None
        room = 1 - self.value / self.limit.bound
        return -room if self.limit.at_least else room


def judged_limits(
    log: CallLog,
    limits: Sequence[Limit],
    from_s: float = 0.0,
    unfinished: int = 0,
    risk: float = CERTIFICATE_RISK,
    duration_s: float | None = None,
) -> tuple[Judgement, ...]:
    """Judge each limit by the calls that finished after ``from_s``, in ``duration_s``.

    Calls that failed, and the ``unfinished``, are over any limit of a duration. A quantile is kept
    by MLPerf's early-stopping bound (``certificate_of``) and broken by the same bound from the
    other side, both at a risk of 1 %, with calls divided by how many are worth an independent one.
    It is broken, and has no value, where the queue grows: what it is depends on how long the run
    lasts. A limit of the error fraction goes by the exact binomial bounds (Clopper & Pearson 1934)
    at the same risk; one of no errors at all is kept where there are none. Throughput and goodput
    are compared as they are. Of gaps a lost call counts for as many as others have in the mean.

    Raises:
        PlanError: a limit is of pieces, and calls answered whole.
    """
    check_of_pieces(limits, in_pieces=bool(log.answers) or not len(log))
    part = part_of(log, from_s)
    whole = part.durations("response_ns")
    lost = part.failed + unfinished
    returned = 0 if whole is None else whole.count
    deviations = DEVIATIONS if risk >= CERTIFICATE_RISK else DEVIATIONS_OF_A_LOOK
    grows = backlog_grows(log, from_s, deviations)
    found = []
    for limit in limits:
        if limit.of == "gap" and log.piece_times is None:  # not known while a run goes on
            found.append(Judgement(limit=limit, verdict="open", value=None))
        elif limit.quantile is not None:
            durations, service, each = _durations_of(limit, log, part, from_s, returned)
            lost_here = math.ceil(lost * each)
            one = _of_quantile(limit, limit.quantile, durations, service, lost_here, risk)
            if grows and limit.of != "gap":  # which no call waits for
                one = replace(
                    one, verdict="broken", value=None, low=None, high=None, calls_missing=None
                )
            cut = limit.of == "gap" and log.piece_times is not None and log.piece_times.cut_calls
            if cut and one.verdict == "kept":  # nobody knows the gaps of the rest
                one = replace(one, verdict="open")
            found.append(one)
        elif limit.figure == "errors":
            found.append(_of_errors(limit, lost, returned + lost, risk))
        else:
            lasted_s = part.duration_s if duration_s is None else duration_s
            rate = returned / lasted_s if lasted_s > 0 else 0.0
            if limit.figure == "goodput":
                rate = goodput_per_s(log, limits, from_s, lasted_s)
            kept = rate >= limit.bound
            found.append(Judgement(limit=limit, verdict="kept" if kept else "broken", value=rate))
    return tuple(found)


def _durations_of(
    limit: Limit, log: CallLog, part: MeasuredPart, from_s: float, returned: int
) -> tuple[Durations | None, Durations | None, float]:
    """The durations that a limit is of, the same without a queue, and how many a call has."""
    if limit.of == "first":
        return part.stage("first_response_ns"), part.stage("first_piece_ns"), 1.0
    if limit.of == "gap":
        found = gaps(log, from_s)
        return found, found, 0.0 if found is None else found.count / max(returned, 1)
    return part.durations("response_ns"), part.durations("service_ns"), 1.0


def _of_quantile(
    limit: Limit,
    q: float,
    durations: Durations | None,
    service: Durations | None,
    lost: int,
    risk: float,
) -> Judgement:
    if durations is None or service is None:
        return Judgement(limit=limit, verdict="broken" if lost else "open", value=None)
    found = certificate_of(durations, q, limit.bound, lost, risk)
    total, late, tau = found.calls, found.over, found.calls_worth_one
    estimate, _ = quantile_ms(durations, q, lost)
    rank = quantile_rank(q, total)
    value = durations.value_of_rank_ms(rank) if rank <= durations.count else None
    verdict: Verdict = "open"
    if found.certified:
        verdict = "kept"
    elif _is_broken(late, total, tau, q, risk):
        verdict = "broken"
    # with more over than the quantile allows, more calls like these never suffice
    hopeless = late / total >= 1 - q
    return Judgement(
        limit=limit,
        verdict=verdict,
        value=value,
        low=None if estimate is None else estimate.low,
        high=None if estimate is None else estimate.high,
        service=service.value_of_rank_ms(quantile_rank(q, service.count)),
        over_fraction=late / total,
        independent_calls=total / tau,
        calls_missing=None if hopeless else max(found.needed_calls - total, 0),
    )


def _is_broken(late: int, calls: int, tau: float, q: float, risk: float) -> bool:
    """Whether so many over the limit would have a chance below the risk if it were kept."""
    if late / calls <= 1 - q:
        return False
    late, calls = math.floor(late / tau), math.floor(calls / tau)
    # the chance of at least so many among the calls, I(1-q; late, calls - late + 1)
    return late >= CALLS_BEYOND and special.betainc(late, calls - late + 1, 1 - q) <= risk


def _of_errors(limit: Limit, failed: int, calls: int, risk: float) -> Judgement:
    if not calls:
        return Judgement(limit=limit, verdict="open", value=None)
    share = failed / calls
    high = (
        1.0 if failed == calls else float(special.betaincinv(failed + 1, calls - failed, 1 - risk))
    )
    low = 0.0 if not failed else float(special.betaincinv(failed, calls - failed + 1, risk))
    verdict: Verdict = "open"
    if limit.bound == 0:
        verdict = "broken" if failed else "kept"
    elif high <= limit.bound:
        verdict = "kept"
    elif low > limit.bound:
        verdict = "broken"
    missing = None
    if verdict == "kept":
        missing = 0
    elif share < limit.bound:
        wanted = math.log(risk) / math.log1p(-limit.bound)
        missing = max(math.ceil(wanted) - calls, 1)
    return Judgement(
        limit=limit, verdict=verdict, value=share, low=low, high=high, calls_missing=missing
    )


def verdict_of_all(judgements: Sequence[Judgement]) -> Verdict:
    """Whether all limits are kept: broken if one is, open if one is and none is broken."""
    verdicts = {one.verdict for one in judgements}
    return "broken" if "broken" in verdicts else "open" if "open" in verdicts else "kept"


def says_enough(log: CallLog, limits: Sequence[Limit], from_s: float = 0.0) -> bool:
    """Whether the calls of an open loop so far say that limits are kept, or cannot be.

    It is asked again and again, so each time at a tenth of the risk. That they are kept needs a run
    of ten times the longest duration that they allow: a queue that grows breaks its limit only
    later.
    """
    verdict = verdict_of_all(judged_limits(log, limits, from_s, risk=RISK_OF_A_LOOK))
    if verdict == "broken" or backlog_grows(log, from_s, DEVIATIONS_OF_A_LOOK):
        return True
    return verdict == "kept" and lasts_long_enough(log, limits, from_s)


def lasts_long_enough(log: CallLog, limits: Sequence[Limit], from_s: float = 0.0) -> bool:
    """Whether a run lasts ten times the longest duration that limits allow."""
    longest_ms = max((one.bound for one in limits if one.quantile is not None), default=0.0)
    span_ms = float(log.finished_ns.max(initial=0)) / 1e6 - from_s * 1e3
    return span_ms >= SPAN * longest_ms
