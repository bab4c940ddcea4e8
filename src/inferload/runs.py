"""One run of any crew: prepare, execute, summarize, check."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from inferload import checks, stats
from inferload.errors import CallError, RunInterrupted, TargetCrashed
from inferload.execution import execute
from inferload.records import ProcessFigures, RunResult, SetUp
from inferload.samples import part_of
from inferload.signals import StopSignals
from inferload.stopping import StopByPrecision
from inferload.units import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.crew import Crew, Preparation
    from inferload.execution import Execution, Observer
    from inferload.records import RunSpec, RunWarning, Summary, Verification
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
        done = execute(crew, options, observer, signals, rule)
        if done.log.calls_made > MANY_CALLS:
            observer.stage(f"summarizing {done.log.calls_made:,} calls")
        # a signal that comes from here on does not lose what was measured
        result = _result(ready, done, signals.received)
    _raise_what_ended(result, done, signals.received)
    return result


def _raise_what_ended(result: RunResult, done: Execution, signals: Sequence[str]) -> None:
    """Raise what a run ended by, with its result, unless it came to its end."""
    made = f"{done.log.calls_made:,} calls"
    name, several = result.spec.target, result.spec.processes > 1
    for number, report in enumerate(done.reports):
        if report.ending is not None:
            which = f" in process {number}" if several else ""
            raise TargetCrashed(
                f"{name}{which} {checks.ending_text(report.ending)}; {made} had finished",
                result=result,
            )
    for number, report in enumerate(done.reports):
        failure = report.outcome.first_failure if result.spec.on_error == "stop" else None
        if failure is None:
            continue
        when = (
            "while warming up"
            if failure.warming_up
            else f"after {result.summary.completed_calls:,} completed calls"
        )
        which = f" of process {number}" if several else ""
        raise CallError(
            f"{name} raised in caller {failure.caller}{which} on input {failure.input} {when}: "
            f"{failure.words}",
            caller=failure.caller,
            input=failure.input,
            result=result,
            place=failure.place,
        ) from failure.exception
    if done.hung:
        number, call = done.hung[0]
        which = f" of process {number}" if several else ""
        raise CallError(
            f"{name} had not returned to caller {call.caller}{which} from input {call.input} after "
            f"{result.spec.timeout_s:g} s, which ended the run; "
            f"{done.log.calls_made - done.log.calls_failed:,} calls had completed",
            caller=call.caller,
            input=call.input,
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
            f"{signals[0]} ended the run after {made}", result=result, abandoned=done.abandoned
        )


def _status(done: Execution, spec: RunSpec, signals: Sequence[str]) -> str:
    if any(report.ending is not None for report in done.reports):
        return "crashed"
    if signals:
        return "interrupted"
    if done.hung or done.never_ready:
        return "timed out"
    failed = any(report.outcome.first_failure is not None for report in done.reports)
    return "failed" if failed and spec.on_error == "stop" else "complete"


def _result(ready: Sequence[Preparation], done: Execution, signals: list[str]) -> RunResult:
    spec = _spec_of_all(ready)
    status = _status(done, spec, signals)
    reports = done.reports
    steady = stats.judged(done.log)
    # of a run that a process or a call has ended, what came before it is no warm-up
    whole = spec.warmup != "auto" or status in {"crashed", "timed out"}
    from_s = 0.0 if whole else stats.cut_of(steady)
    made_calls = done.log.calls_made
    unfinished = max(done.due_calls - made_calls, 0)
    summary = stats.summarize(
        done.log,
        spec.items_per_input,
        callers=spec.callers,
        from_s=from_s,
        unfinished=unfinished,
        # a run that was cut short was not looked at for as long as its calls were due
        in_flight=None if status != "complete" else done.watcher.mean_in_flight(from_s),
        due_s=done.watcher.due_s,
        observed_s=done.stopped_s if done.abandoned or unfinished else None,
    )
    if status in {"crashed", "timed out"}:
        summary = replace(summary, littles_law=None, littles_law_error=None)
    set_up = _set_up(ready, done)
    processes = [_process(number, ready[number], done, summary) for number in range(len(reports))]
    verification = _verification([r.verification for r in reports if r.verification is not None])
    found = checks.Findings(
        spec=spec,
        summary=summary,
        steady=steady,
        disturbances=done.disturbances,
        made_calls=made_calls,
        failed_calls=done.log.calls_failed,
        errors=done.log.errors,
        floor_ms=set_up.floor_ms,
        run_delay_s=sum(report.outcome.run_delay_ns for report in reports) / NS_PER_S,
        recompiled_graphs=sum(report.recompiled_graphs for report in reports),
        cut_short=status != "complete",
        disk_full=any(report.outcome.disk_full for report in reports),
        log_was_full=any(report.outcome.log_was_full for report in reports),
        on_device=ready[0].on_device,
        verification=verification,
        processes=processes,
        endings=[(n, r.ending) for n, r in enumerate(reports) if r.ending is not None],
    )
    return RunResult(
        run_id=uuid.uuid4().hex,
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        status=status,
        spec=spec,
        environment=ready[0].environment,
        set_up=set_up,
        summary=summary,
        warnings=_distinct(
            [
                *[warning for one in ready for warning in one.warnings],
                *done.warnings,
                *[warning for report in reports for warning in report.warnings],
                *checks.warnings_after(found),
            ]
        ),
        steady=steady,
        verification=verification,
        processes=tuple(processes),
        models=tuple(
            stats.model_figures(
                done.log,
                share,
                summary,
                _verification(
                    [
                        report.verification_by_model[number]
                        for report in reports
                        if report.verification_by_model
                    ]
                ),
            )
            for number, share in enumerate(spec.models)
        ),
        log=done.log,
    )


def _spec_of_all(ready: Sequence[Preparation]) -> RunSpec:
    first = ready[0].spec
    return replace(first, callers=sum(one.spec.callers for one in ready), processes=len(ready))


def _distinct(warnings: Sequence[RunWarning]) -> tuple[RunWarning, ...]:
    """Each once, though several processes may have said it."""
    return tuple(dict.fromkeys(warnings))


def _verification(found: Sequence[Verification]) -> Verification | None:
    """The verifications of all processes as one; the worst difference of them."""
    if not found:
        return None
    worst = max(found, key=lambda one: (one.reason is not None, one.difference or one.differing))
    return replace(
        worst,
        compared=sum(one.compared for one in found),
        differing=sum(one.differing for one in found),
    )


def _set_up(ready: Sequence[Preparation], done: Execution) -> SetUp:
    firsts = [
        first
        for report in done.reports
        for first in report.outcome.first_calls_ns
        if first and ready[0].spec.warmup_calls
    ]
    slowest = max(firsts, key=lambda first: first[0], default=())
    floors = [one.floor_ms for one in ready if one.floor_ms is not None]
    first_calls = [r.first_call_ms for r in done.reports if r.first_call_ms is not None]
    return SetUp(
        prepare_s=max(one.prepare_s for one in ready),
        load_s=max(one.load_s for one in ready),
        convert_s=max(one.convert_s for one in ready),
        process_s=max(one.process_s for one in ready),
        nursery_pss_bytes=done.nursery_pss_bytes,
        open_s=done.open_s,
        first_call_ms=max(first_calls, default=None),
        first_ten_ms=tuple(duration / NS_PER_MS for duration in slowest),
        log_bytes=sum(one.log_bytes for one in ready),
        floor_ms=max(floors, default=None),
    )


def _process(number: int, ready: Preparation, done: Execution, summary: Summary) -> ProcessFigures:
    log, report = done.part_logs[number], done.reports[number]
    part = part_of(log, summary.from_s, ready.spec.callers)
    memory = done.watcher.memory[number].found
    if memory is not None and report.peak_rss_bytes is not None:
        memory = replace(memory, peak_rss_bytes=max(memory.peak_rss_bytes, report.peak_rss_bytes))
    durations = part.durations("response_ns")
    completed = int(part.returned_by_input.sum())
    late_ms = None
    if not part.open_loop and len(log):
        late_ms = float(log.started_ns.min()) / NS_PER_MS
    return ProcessFigures(
        process=number,
        pid=ready.pid,
        callers=ready.spec.callers,
        completed_calls=completed,
        failed_calls=part.failed,
        throughput_calls_per_s=completed / summary.duration_s if summary.duration_s else 0.0,
        p50_ms=None if durations is None else stats.value_ms(durations, 0.5),
        p99_ms=None if durations is None else stats.value_ms(durations, 0.99),
        start_late_ms=late_ms,
        cpus=tuple(map(tuple, report.outcome.cpus)),
        threads=tuple(report.outcome.threads),
        memory=memory,
        ending=report.ending,
    )
