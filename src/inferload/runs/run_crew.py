"""One run of any crew: prepare, execute, summarize, check."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from inferload.errors import PlanError
from inferload.log import failures as device_errors
from inferload.log.reasons import way_round
from inferload.records.endings import CallError, RunInterrupted, TargetCrashed
from inferload.runs.checks import result as checks
from inferload.runs.driving import execute
from inferload.runs.result import result_of
from inferload.signals import StopSignals
from inferload.stats.limits.limit import limits_given
from inferload.stats.stopping import StopAtBroken, StopByLimits, StopByPrecision

if TYPE_CHECKING:
    from inferload.callers.crew import Crew, Observer
    from inferload.callers.outcome import FirstFailure
    from inferload.plan.options import RunOptions
    from inferload.records.result import RunResult
    from inferload.runs.execution import Execution
    from inferload.signals import PutOff
    from inferload.stats.stopping import StopRule

# Summarizing so many takes a noticeable while.
MANY_CALLS = 1_000_000
# Calls that are named where a device failed.
MOST_SUSPECTS = 8


def run_crew(
    crew: Crew, options: RunOptions, observer: Observer, then: PutOff | None = None
) -> RunResult:
    """Run a crew as the options say; ``then`` hears signals when there is a result to keep.

    Raises:
        PlanError: the run was refused before any caller started, or a first call did no work.
        NativeBuildError: native callers were asked for by name and cannot be had.
        CallError: the target raised and ``on_error`` is ``"stop"``, or a call did not return.
        TargetCrashed: the target ended its process.
        RunInterrupted: Ctrl-C or SIGTERM.
    """
    ready = crew.prepare(observer.stage)
    rule: StopRule | None = None
    cut = options.warmup == "auto"
    if options.precision is not None:
        rule = StopByPrecision(options.precision, options.quantile, cut=cut)
    elif options.decide:
        rule = StopByLimits(options.decide, cut=cut)
    limits = limits_given(options.limit)
    watch = StopAtBroken(limits, cut=cut, stages=options.load.stages, other=rule)
    with StopSignals(then=then) as signals:
        done = execute(crew, ready, options, observer, signals, watch if limits else rule)
        if done.log.calls_made > MANY_CALLS:
            observer.stage(f"summarizing {done.log.calls_made:,} calls")
        # a signal that comes from here on does not lose what was measured
        done = replace(done, signals=tuple(signals.received), broken=watch.broken)
        result = result_of(done)
    raise_what_ended(result, done)
    return result


def raise_what_ended(result: RunResult, done: Execution) -> None:
    """Raise what a run ended by, with its result, unless it came to its end."""
    for failure in [r.outcome.first_failure for one in done.processes for r in one.reports]:
        if failure is not None and isinstance(failure.exception, PlanError):
            raise failure.exception
    made = f"{done.log.calls_made:,} calls"
    name = result.spec.target
    for process in done.processes:
        if process.ending is not None:
            which = _which(result, process.number, " in ")
            raise TargetCrashed(
                f"{name}{which} {checks.ending_text(process.ending)}; {made} had finished",
                result=result,
            )
    if result.spec.on_error == "stop" or result.status == "failed":
        _raise_first_failure(result, done)
    if done.hung:
        hung = done.hung[0]
        raise CallError(
            f"{name} had not returned to caller {hung.caller}{_which(result, hung.process)} from "
            f"input {hung.input} after {result.spec.timeout_s:g} s, which ended the run; "
            f"{done.log.calls_made - done.log.calls_failed:,} calls had completed",
            caller=hung.caller,
            input=hung.input,
            result=result,
        )
    if done.never_ready:
        raise CallError(
            f"{name} had not made its {result.spec.warmup_calls:,} warm-up calls after "
            f"{result.spec.timeout_s:g} s for each of them: a call hangs while warming up",
            result=result,
        )
    lost = [rank for rank in done.ranks if rank.lost is not None]
    if lost:
        host = f" ({lost[0].host})" if lost[0].host else ""
        more = f", and {len(lost) - 1} more were lost" if len(lost) > 1 else ""
        raise TargetCrashed(
            f"rank {lost[0].rank}{host} {lost[0].lost}{more}; {made} of the other ranks are kept",
            result=result,
        )
    if result.status == "interrupted":
        raise RunInterrupted(
            f"{done.signals[0]} ended the run after {made}", result=result, abandoned=done.abandoned
        )


def _raise_first_failure(result: RunResult, done: Execution) -> None:
    for process in done.processes:
        for report in process.reports:
            failure = report.outcome.first_failure
            if failure is None:
                continue
            when = (
                "while warming up"
                if failure.warming_up
                else f"after {result.summary.completed_calls:,} completed calls"
            )
            own = f"{PlanError.__name__}: "
            if failure.words.startswith(own):  # we raised it: its calls do no work
                raise PlanError(failure.words.removeprefix(own)) from failure.exception
            which = _which(result, process.number)
            raise CallError(
                f"{result.spec.target} raised in caller {failure.caller}{which} on input "
                f"{failure.input} {when}: {device_errors.told(failure.words)}"
                f"{'' if result.spec.grad_mode == 'grad' else way_round(failure.words)}"
                f"{_suspects(failure, process.number, done)}{_smaller(result, failure)}",
                caller=failure.caller,
                input=failure.input,
                result=result,
                place=failure.place,
            ) from failure.exception


def _smaller(result: RunResult, failure: FirstFailure) -> str:
    """What to do about a batch for which there was no memory."""
    if result.spec.batching is None or not device_errors.is_out_of_memory(failure.words):
        return ""
    return (
        "; with --on-error record batches are halved until they fit, and --max-batch asks for "
        "smaller ones"
    )


def _suspects(failure: FirstFailure, process: int, done: Execution) -> str:
    """Which other calls may have made a device fail: it says so late, to whoever asks first."""
    if not device_errors.is_fatal(failure.words):
        return ""
    log, own = done.log, sum(done.log.callers_by_lane)
    failed = np.flatnonzero(~log.completed & (log.process == process))
    others = ""
    if len(failed):
        seen_ns = log.finished_ns[failed].min()
        in_flight = failed[log.started_ns[failed] <= seen_ns]
        calls = [(log.caller[row] - process * own, log.input[row]) for row in in_flight]
        names = [
            f"caller {caller} on input {number}"
            for caller, number in calls
            if (caller, number) != (failure.caller, failure.input)
        ]
        others = ", ".join(names[:MOST_SUSPECTS]) + ", ..." * (len(names) > MOST_SUSPECTS)
    if not others:
        return "; the device is lost to this process"
    return (
        "; a device says so late, so it may also have been a call in flight with this one "
        f"({others}): --callers 1 tells. The device is lost to this process"
    )


def _which(result: RunResult, process: int, before: str = " of ") -> str:
    """Which process of several, and on which rank of a cluster."""
    spec = result.spec
    if spec.ranks > 1:
        rank, own = divmod(process, spec.processes // spec.ranks)
        found = f"{before}rank {rank} ({result.ranks[rank].host})"
        return found + (f", process {own}" if spec.processes > spec.ranks else "")
    return f"{before}process {process}" if spec.processes > 1 else ""
