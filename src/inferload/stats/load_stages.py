"""What calls saw in each stage of a load whose rate changes; they belong to where they were due."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from inferload.records.distribution import QUOTED_QUANTILES, Estimate
from inferload.records.stages import LoadStage
from inferload.stats.durations import RawDurations
from inferload.stats.intervals import CERTIFICATE_RISK
from inferload.stats.limits.judging import judged_limits
from inferload.stats.parts import RawPart
from inferload.stats.steadiness.overload import DEVIATIONS, DEVIATIONS_OF_A_LOOK, overload_of
from inferload.stats.summary import distribution_ms
from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
    late = None if log.tally is not None else RawPart(log, 0, callers).lateness_ns()
    by_due, found = ByDue(log), []
    for stage, end_s in zip(stages, ends, strict=True):
        from_s, until_s = end_s - stage.duration_s, min(end_s, lasted_s)
        if until_s > from_s:
            found.append(_stage(by_due, late, stage, (from_s, until_s), due_ns))
    return tuple(found)


class ByDue:
    """The calls of a log in the order in which they were due, so that a stage is a slice of it."""

    def __init__(self, log: CallLog) -> None:
        self.order = np.argsort(log.scheduled_ns, kind="stable")
        self.log, self.whole = log.rows(self.order), log
        self._all_before = np.maximum.accumulate(self.log.finished_ns)

    def within(self, from_ns: int, until_ns: int) -> slice:
        """Which were due from one time on and before another one."""
        first, last = np.searchsorted(self.log.scheduled_ns, [from_ns, until_ns])
        return slice(int(first), int(last))

    def since(self, from_ns: int, until_ns: int) -> CallLog:
        """Those that were due before ``until_ns``, without what was over at ``from_ns``."""
        own = self.within(from_ns, until_ns)
        first = int(np.searchsorted(self._all_before, from_ns, side="right"))
        found = self.log.rows(slice(min(first, own.start), own.stop))
        return replace(found, tally=self.whole.tally)


def judged_in_stages(
    log: CallLog,
    limits: Sequence[Limit],
    stages: Sequence[Stage],
    unfinished: Sequence[int] = (),
    risk: float = CERTIFICATE_RISK,
    first: int = 0,
) -> Iterator[tuple[int, CallLog, tuple[Judgement, ...]]]:
    """Of each stage its number, from 1, the calls that were due in it, and what they say of limits.

    The ``first`` ones are left out. A quantile is broken, and has no value, where the queue grew in
    its stage.
    """
    by_due, begun_s = ByDue(log), sum(one.duration_s for one in stages[:first])
    deviations = DEVIATIONS if risk >= CERTIFICATE_RISK else DEVIATIONS_OF_A_LOOK
    for number, stage in enumerate(stages[first:], first + 1):
        from_ns, until_ns = (
            round(at_s * NS_PER_S) for at_s in (begun_s, begun_s + stage.duration_s)
        )
        until = replace(by_due.since(from_ns, until_ns), tally=None)
        own = by_due.log.rows(by_due.within(from_ns, until_ns))
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
    by_due: ByDue,
    late: Int64s | None,
    stage: Stage,
    span_s: tuple[float, float],
    due_ns: Int64s,
) -> LoadStage:
    log, (from_s, until_s) = by_due.whole, span_s
    from_ns, until_ns = round(from_s * NS_PER_S), round(until_s * NS_PER_S)
    one_in = log.calls_made / max(len(log), 1)  # the rows may be a sample
    own = by_due.within(from_ns, until_ns)
    # intervals go by the order of time
    mine = by_due.order[own][np.argsort(by_due.log.finished_ns[own], kind="stable")]
    well = mine[log.completed[mine]]
    before, upto = (int(np.searchsorted(due_ns, at_ns)) for at_ns in (from_ns, until_ns))
    due, failed = upto - before, round((len(mine) - len(well)) * one_in)
    # of a sample it is not known how many were made in one stage: all, or less by chance
    unfinished = max(due - len(mine), 0) if log.tally is None else 0
    until = by_due.since(from_ns, until_ns)
    overload, behind_ns = overload_of_stage(until, stage, from_s), None
    if overload is not None and late is not None:
        behind_ns = _behind_from_ns(until, from_ns)
        overload = _while_behind(overload, log, due_ns, behind_ns, until_ns)
    begun = np.count_nonzero(log.started_ns[by_due.order[: own.start]] < from_ns) * one_in
    within = (log.finished_ns > from_ns) & (log.finished_ns <= until_ns) & log.completed
    return LoadStage(
        stage=stage,
        from_s=from_s,
        until_s=until_s,
        waiting_calls=max(round(before - begun), 0),
        due_calls=due,
        completed_calls=due - failed - unfinished,
        failed_calls=failed,
        unfinished_calls=unfinished,
        served_per_s=int(within.sum()) * one_in / (until_s - from_s),
        response_ms=_of_sample(
            distribution_ms(
                RawDurations.of(log.response_ns[well]),
                unfinished,
                not_quoted=None if overload is None else "overloaded",
            ),
            one_in,
        ),
        lateness_ms=None if late is None else distribution_ms(RawDurations.of(late[well])),
        overload=overload,
        behind_from_s=None if behind_ns is None else behind_ns / NS_PER_S,
    )


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
    1977), so that 1.5 more of them are asked for: 0.2 % at 3.5. On its way down the queue grows at
    first, and may be gone at the end: it is judged until the moment at which the most calls waited,
    which is at d deviations or more with the chance 2 (1 - Phi(d)) (reflection), 0.05 % at 3.5.
    """
    found = overload_of(log, from_s, deviations)
    if found is not None or log.tally is not None:
        return found
    if stage.end_per_s > stage.rate_per_s:
        behind_s = _behind_from_ns(log, round(from_s * NS_PER_S)) / NS_PER_S
        return overload_of(log, behind_s, deviations + 1.5)
    if stage.end_per_s < stage.rate_per_s:
        most = log.rows(log.scheduled_ns <= _most_waiting_ns(log, round(from_s * NS_PER_S)))
        return overload_of(most, from_s, deviations + 1.5)
    return None


def _most_waiting_ns(log: CallLog, from_ns: int) -> int:
    """When the most calls waited that were due from a time on."""
    due, started = np.sort(log.scheduled_ns), np.sort(log.started_ns)
    first = int(np.searchsorted(due, from_ns))
    if first == len(due):
        return from_ns
    waiting = np.arange(first, len(due)) - np.searchsorted(started, due[first:], side="right")
    return int(due[first + int(np.argmax(waiting))])


def _behind_from_ns(log: CallLog, from_ns: int) -> int:
    """Since when some call has waited all the time; from the start of the stage at the earliest."""
    due, started = np.sort(log.scheduled_ns), np.sort(log.started_ns)
    first = int(np.searchsorted(due, from_ns))
    # how many wait when a call comes
    waiting = np.arange(first, len(due)) - np.searchsorted(started, due[first:], side="right")
    none = np.flatnonzero(waiting <= 0)
    return int(due[first + none[-1]]) if len(none) else from_ns


def _while_behind(
    overload: Overload, log: CallLog, due_ns: Int64s, behind_ns: int, until_ns: int
) -> Overload:
    """With the rates of the time in which some call waited, where there is one queue."""
    span_s = (until_ns - behind_ns) / NS_PER_S
    if overload.queues_in_all > 1 or span_s <= 0:
        return overload
    asked, served = (
        int(np.count_nonzero((times > behind_ns) & (times <= until_ns))) / span_s
        for times in (due_ns, log.finished_ns)
    )
    return replace(overload, asked_per_s=asked, served_per_s=served)


def with_stages(summary: Summary, stages: Sequence[LoadStage]) -> Summary:
    """The summary of a run with a stage in which the queue grew: no quantile of it is quoted.

    They would say how long that stage lasted. Little's law holds all the same. Nor has the rate of
    any such load an interval: batches of time differ because they were asked to.
    """
    if stages:
        summary = replace(
            summary,
            throughput_calls_per_s=_without_interval(summary.throughput_calls_per_s),
            throughput_items_per_s=_without_interval(summary.throughput_items_per_s),
        )
    overloads = [one.overload for one in stages if one.overload is not None]
    if summary.overload is not None or not overloads:
        return summary
    return replace(
        summary,
        overload=max(overloads, key=lambda one: one.utilisation),
        response_ms=_not_quoted(summary.response_ms),
        queue_ms=_not_quoted(summary.queue_ms),
    )


def _without_interval(rate: Estimate) -> Estimate:
    return Estimate(value=rate.value, method="count / duration, of a load that changes")


def _not_quoted(distribution: Distribution | None) -> Distribution | None:
    if distribution is None:
        return None
    return replace(
        distribution,
        **dict.fromkeys(QUOTED_QUANTILES),  # type: ignore[arg-type]
        more_calls={},
        not_quoted="overloaded",
    )
