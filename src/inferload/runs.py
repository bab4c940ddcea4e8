"""One run of any crew: prepare, execute, summarize, check."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from inferload import checks
from inferload.errors import CallError, RunInterrupted, TargetCrashed
from inferload.execution import execute
from inferload.results import result_of
from inferload.signals import StopSignals
from inferload.stopping import StopByPrecision

if TYPE_CHECKING:
    from inferload.crew import Crew
    from inferload.execution import Execution, Observer
    from inferload.records import RunResult
    from inferload.run_options import RunOptions

# Summarizing so many takes a noticeable while.
MANY_CALLS = 1_000_000


def run_crew(crew: Crew, options: RunOptions, observer: Observer) -> RunResult:
    """Run a crew as the options say.

    Raises:
        PlanError: the run was refused before any caller started.
        NativeBuildError: native callers were asked for by name and cannot be had.
        CallError: the target raised and ``on_error`` is ``"stop"``, or a call did not return.
        TargetCrashed: the target ended its process.
        RunInterrupted: Ctrl-C or SIGTERM.
    """
    ready = crew.prepare(observer.stage)
    rule = None
    if options.precision is not None:
        rule = StopByPrecision(options.precision, options.quantile, cut=options.warmup == "auto")
    with StopSignals() as signals:
        done = execute(crew, ready, options, observer, signals, rule)
        if done.log.calls_made > MANY_CALLS:
            observer.stage(f"summarizing {done.log.calls_made:,} calls")
        # a signal that comes from here on does not lose what was measured
        done = replace(done, signals=tuple(signals.received))
        result = result_of(done)
    raise_what_ended(result, done)
    return result


def raise_what_ended(result: RunResult, done: Execution) -> None:
    """Raise what a run ended by, with its result, unless it came to its end."""
    made = f"{done.log.calls_made:,} calls"
    name, several = result.spec.target, result.spec.processes > 1
    for number, process in enumerate(done.processes):
        if process.ending is not None:
            which = f" in process {number}" if several else ""
            raise TargetCrashed(
                f"{name}{which} {checks.ending_text(process.ending)}; {made} had finished",
                result=result,
            )
    if result.spec.on_error == "stop":
        _raise_first_failure(result, done)
    if done.hung:
        hung = done.hung[0]
        which = f" of process {hung.process}" if several else ""
        raise CallError(
            f"{name} had not returned to caller {hung.caller}{which} from input {hung.input} after "
            f"{result.spec.timeout_s:g} s, which ended the run; "
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
    if result.status == "interrupted":
        raise RunInterrupted(
            f"{done.signals[0]} ended the run after {made}", result=result, abandoned=done.abandoned
        )


def _raise_first_failure(result: RunResult, done: Execution) -> None:
    for number, process in enumerate(done.processes):
        for report in process.reports:
            failure = report.outcome.first_failure
            if failure is None:
                continue
            when = (
                "while warming up"
                if failure.warming_up
                else f"after {result.summary.completed_calls:,} completed calls"
            )
            which = f" of process {number}" if result.spec.processes > 1 else ""
            raise CallError(
                f"{result.spec.target} raised in caller {failure.caller}{which} on input "
                f"{failure.input} {when}: {failure.words}",
                caller=failure.caller,
                input=failure.input,
                result=result,
                place=failure.place,
            ) from failure.exception
