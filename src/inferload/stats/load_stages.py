"""What calls saw in each stage of a load whose rate changes; they belong to where they were due."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from inferload.records.quantiles import QUOTED_QUANTILES
from inferload.records.stages import LoadStage
from inferload.stats.durations import RawDurations
from inferload.stats.intervals import CERTIFICATE_RISK
from inferload.stats.limits.judging import judged_limits
from inferload.stats.overload import DEVIATIONS, DEVIATIONS_OF_A_LOOK, overload_of
from inferload.stats.parts import RawPart
from inferload.stats.summary import distribution_ms
from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from inferload.log.arrays import Int64s
    from inferload.log.calls import CallLog
    from inferload.records.distribution import Distribution
    from inferload.records.figures import Overload, Summary
    from inferload.records.stages import Stage
    from inferload.stats.limits.judging import Judgement
    from inferload.stats.limits.limit import Limit


def load_stages(
    log: CallLog, stages: Sequence[Stage], due_ns: Int64s, lasted_s: float, callers: int = 1
) -> tuple[LoadStage, ...]:
    """The figures of each stage; one that the run did not come to has none.

    ``due_ns`` are the times of all calls that were due until the run ended, ``lasted_s`` after the
    start line. Whether the queue grew is asked of each stage alone (``overload_of_stage``), less
    what earlier stages left behind.
    """
    ends = list(accumulate(one.duration_s for one in stages))
    order = np.argsort(log.finished_ns, kind="stable")  # intervals go by the order of time
    late = None if log.tally is not None else RawPart(log, 0, callers).lateness_ns()[order]
    in_order = log.rows(order)
    found = []
    for stage, end_s in zip(stages, ends, strict=True):
        from_s, until_s = end_s - stage.duration_s, min(end_s, lasted_s)
        if until_s > from_s:
            one = _stage(replace(in_order, tally=log.tally), late, stage, from_s, until_s, due_ns)
            found.append(one)
    return tuple(found)


def judged_in_stages(
    log: CallLog,
    limits: Sequence[Limit],
    stages: Sequence[Stage],
    unfinished: Sequence[int] = (),
    risk: float = CERTIFICATE_RISK,
) -> Iterator[tuple[int, CallLog, tuple[Judgement, ...]]]:
    """Of each stage its number, from 1, the calls that were due in it, and what they say of limits.

    A quantile is broken, and has no value, where the queue grew in its stage.
    """
    begun_s = 0.0
    deviations = DEVIATIONS if risk >= CERTIFICATE_RISK else DEVIATIONS_OF_A_LOOK
    for number, stage in enumerate(stages, 1):
        from_ns, until_ns = (
            round(at_s * NS_PER_S) for at_s in (begun_s, begun_s + stage.duration_s)
        )
        until = log.rows(log.scheduled_ns < until_ns)
        own = until.rows(until.scheduled_ns >= from_ns)
        grew = len(own) > 0 and overload_of_stage(until, stage, begun_s, deviations) is not None
        lost = unfinished[number - 1] if unfinished else 0
        found = judged_limits(own, limits, begun_s, lost, risk)
        yield number, own, tuple(_broken(one) if grew else one for one in found)
        begun_s += stage.duration_s


def _broken(one: Judgement) -> Judgement:
    if one.limit.quantile is None:
        return one
    return replace(one, verdict="broken", value=None, low=None, high=None, calls_missing=None)


def _stage(
    log: CallLog,
    late: Int64s | None,
    stage: Stage,
    from_s: float,
    until_s: float,
    due_ns: Int64s,
) -> LoadStage:
    from_ns, until_ns = round(from_s * NS_PER_S), round(until_s * NS_PER_S)
    one_in = log.calls_made / max(len(log), 1)  # the rows may be a sample
    mine = (log.scheduled_ns >= from_ns) & (log.scheduled_ns < until_ns)
    well = mine & log.completed
    due = int(np.searchsorted(due_ns, until_ns) - np.searchsorted(due_ns, from_ns))
    failed, made = (_count(rows, one_in) for rows in (mine & ~well, mine))
    # of a sample it is not known how many were made in one stage: all, or less by chance
    unfinished = max(due - made, 0) if log.tally is None else 0
    until = replace(log.rows(log.scheduled_ns < until_ns), tally=log.tally)
    overload, behind_ns = overload_of_stage(until, stage, from_s), None
    if overload is not None and late is not None:
        behind_ns = _behind_from_ns(until, from_ns)
        overload = _while_behind(overload, until, behind_ns, until_ns)
    within = (log.finished_ns > from_ns) & (log.finished_ns <= until_ns) & log.completed
    return LoadStage(
        stage=stage,
        from_s=from_s,
        until_s=until_s,
        waiting_calls=_count((log.scheduled_ns < from_ns) & (log.started_ns >= from_ns), one_in),
        due_calls=due,
        completed_calls=due - failed - unfinished,
        failed_calls=failed,
        unfinished_calls=unfinished,
        served_per_s=int(within.sum()) * one_in / (until_s - from_s),
        response_ms=_of_sample(
            distribution_ms(
                _durations(log.response_ns, well),
                unfinished,
                not_quoted=None if overload is None else "overloaded",
            ),
            one_in,
        ),
        lateness_ms=None if late is None else distribution_ms(_durations(late, well)),
        overload=overload,
        behind_from_s=None if behind_ns is None else behind_ns / NS_PER_S,
    )


def _count(rows: NDArray[np.bool_], one_in: float) -> int:
    return round(int(rows.sum()) * one_in)


def _durations(values_ns: Int64s, rows: NDArray[np.bool_]) -> RawDurations:
    return RawDurations.of(values_ns[rows])


def _of_sample(distribution: Distribution | None, one_in: float) -> Distribution | None:
    """Of every ``one_in``-th call: so many times as many more calls are needed for a quantile."""
    if distribution is None or one_in <= 1:
        return distribution
    more = {name: round(more * one_in) for name, more in distribution.more_calls.items()}
    return replace(distribution, more_calls=more)


def overload_of_stage(
    log: CallLog, stage: Stage, from_s: float, deviations: float = DEVIATIONS
) -> Overload | None:
    """Whether the queue grew in a stage, by the calls that were due until its end, or so far.

    On its way up a ramp passes what is served, and the queue grows only from there: so it is judged
    since the last moment at which no call waited, too. A queue that was not empty since then, of
    calls that are served just as fast as they come, ends at d standard deviations or more with the
    chance exp(-d^2 / 2) (Brownian meander; Durrett, Iglehart & Miller, Annals of Probability 5,
    1977), so that 1.5 more of them are asked for: 0.2 % at 3.5.
    """
    found = overload_of(log, from_s, deviations, left_behind=True)
    if found is None and stage.end_per_s > stage.rate_per_s and log.tally is None:
        behind_s = _behind_from_ns(log, round(from_s * NS_PER_S)) / NS_PER_S
        found = overload_of(log, behind_s, deviations + 1.5)
    return found


def _behind_from_ns(log: CallLog, from_ns: int) -> int:
    """Since when some call has waited all the time; from the start of the stage at the earliest."""
    due, started = np.sort(log.scheduled_ns), np.sort(log.started_ns)
    first = int(np.searchsorted(due, from_ns))
    # how many wait when a call comes
    waiting = np.arange(first, len(due)) - np.searchsorted(started, due[first:], side="right")
    none = np.flatnonzero(waiting <= 0)
    return int(due[first + none[-1]]) if len(none) else from_ns


def _while_behind(overload: Overload, log: CallLog, behind_ns: int, until_ns: int) -> Overload:
    """With the rates of the time in which some call waited, where there is one queue."""
    span_s = (until_ns - behind_ns) / NS_PER_S
    if overload.queues_in_all > 1 or span_s <= 0:
        return overload
    asked, served = (
        int(np.count_nonzero((times > behind_ns) & (times <= until_ns))) / span_s
        for times in (log.scheduled_ns, log.finished_ns)
    )
    return replace(overload, asked_per_s=asked, served_per_s=served)


def with_stages(summary: Summary, stages: Sequence[LoadStage]) -> Summary:
    """The summary of a run with a stage in which the queue grew: no quantile of it is quoted.

    They would say how long that stage lasted. Little's law holds all the same.
    """
    overloads = [one.overload for one in stages if one.overload is not None]
    if summary.overload is not None or not overloads:
        return summary
    return replace(
        summary,
        overload=max(overloads, key=lambda one: one.utilisation),
        response_ms=_not_quoted(summary.response_ms),
        queue_ms=_not_quoted(summary.queue_ms),
    )


def _not_quoted(distribution: Distribution | None) -> Distribution | None:
    if distribution is None:
        return None
    return replace(
        distribution,
        **dict.fromkeys(QUOTED_QUANTILES),  # type: ignore[arg-type]
        more_calls={},
        not_quoted="overloaded",
    )
