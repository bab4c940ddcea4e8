"""A run that the command line drives: in other processes or in this one, then saved and shown."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import typer

from inferload.cli import output, terminal
from inferload.cli.interrupts import EXIT_INTERRUPTED, AtOnce, kept
from inferload.cli.kept import kept_beside
from inferload.cli.request.made_by import made_by
from inferload.cli.silent import Silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from inferload.callers.crew import Crew, Observer
    from inferload.cli.request.asked import Asked
    from inferload.plan.model import ModelSource
    from inferload.plan.options import RunOptions
    from inferload.records.result import RunResult
    from inferload.signals import PutOff


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A run that is over and saved: what came of it, what ended it, and the exit code for that.

    ``lost``: it was to be saved, and no file could have it.
    """

    result: RunResult | None
    failure: BaseException | None
    code: int
    lost: bool = False


def run_here(asked: Asked) -> None:
    """Run, save and report.

    Raises:
        typer.Exit: with the exit code, unless that is 0.
    """
    asked.check_outputs()
    reported(asked, measured_here(asked))


def measured_here(asked: Asked) -> Done:
    """Run, save, and write the reports."""
    with kept_beside(asked.json) as kept:
        options = replace(asked.options(), keep_in=kept.folder)

        def run(observer: Observer, then: PutOff) -> RunResult:
            with crew_for(asked, options, observer) as crew:
                # what this takes to load, it loads while the other process imports torch
                from inferload.runs.run_crew import run_crew

                return run_crew(crew, options, observer, then)

        done = measured(asked, options, run)
        kept.needed = done.lost
        return done


def measured(
    asked: Asked, options: RunOptions, run: Callable[[Observer, PutOff], RunResult | None]
) -> Done:
    """Run with progress, save what comes of it, and write the reports: before any is printed.

    ``run`` is given what hears signals from the moment on at which there is a result.
    """
    from inferload.cli.progress import Progress
    from inferload.records.endings import CallError, RunInterrupted, TargetCrashed
    from inferload.signals import PutOff

    progress = Progress(output.errors, options.calls, options.limit_s)
    failure: BaseException | None = None
    result: RunResult | None
    then = PutOff()
    try:
        try:
            result = run(Silent() if asked.quiet else progress, then)
        except (CallError, RunInterrupted, TargetCrashed) as error:
            result, failure = error.result, error
        finally:
            progress.close()
        if result is None and failure is None:
            return Done(result=None, failure=None, code=0)
        saved = kept_somewhere = True
        if result is not None:
            result = replace(result, made_by=made_by(batch_size=asked.batch_size))
            if asked.json is not None:
                saved, kept_somewhere = output.save(result, asked.json)
            saved &= output.write_reports(result, asked.reports)
            kept.text = "its report was not printed to the end"
        return Done(
            result=result,
            failure=failure,
            code=_exit_code(result, failure, saved=saved),
            lost=not kept_somewhere,
        )
    finally:
        then.drop()  # a signal that came has its wish: the run is over


def reported(asked: Asked, done: Done) -> None:
    """Report a run; nothing if nothing came of it.

    Raises:
        typer.Exit: with the exit code, unless that is 0.
    """
    result, code = done.result, done.code
    # of a run that failed before any call was measured the sentence says it all
    if result is not None and (done.failure is None or result.log.calls_made):
        code = code if output.print_any(result) else code or output.EXIT_FAILED
    if done.failure is not None:
        output.say(output.with_place(done.failure))
    for one in () if result is None else result.limits:
        if one.verdict == "broken":
            output.say(f"the limit {one.limit} is broken")
    given_up = result is not None and (
        result.status == "timed out" or any(w.code == "calls-given-up" for w in result.warnings)
    )
    if given_up and not asked.isolate:
        terminal.stdout.flush()  # a normal exit would tear torch down under a call
        os._exit(code)
    if code:
        raise typer.Exit(code)


def _exit_code(result: RunResult | None, failure: BaseException | None, *, saved: bool) -> int:
    from inferload.records.endings import RunInterrupted, TargetCrashed

    if isinstance(failure, RunInterrupted):
        return EXIT_INTERRUPTED
    if isinstance(failure, TargetCrashed):
        return output.EXIT_CRASHED
    if failure is not None or not saved or result is None or result.summary.failed_calls:
        return output.EXIT_FAILED
    if any(one.verdict == "broken" for one in result.limits):
        return output.EXIT_FAILED
    checked = result.verification
    unverified = checked is not None and (checked.differing or checked.reason)
    return output.EXIT_FAILED if unverified else 0


@contextmanager
def crew_for(asked: Asked, options: RunOptions, observer: Observer) -> Iterator[Crew]:
    """The callers that were asked for: in other processes, or in this one.

    Raises:
        PlanError: the model or its inputs cannot be had.
    """
    with (_isolated if asked.isolate else _in_this_process)(
        asked.source(), options, observer
    ) as crew:
        yield crew


@contextmanager
def _isolated(source: ModelSource, options: RunOptions, observer: Observer) -> Iterator[Crew]:
    """Callers in other processes: this one does not even import torch."""
    from inferload.callers.processes.crew import ProcessCrew

    with ProcessCrew(options, source=source) as crew:
        crew.begin(observer.stage)
        yield crew


@contextmanager
def _in_this_process(
    source: ModelSource, options: RunOptions, observer: Observer
) -> Iterator[Crew]:
    from inferload.errors import PlanError

    if options.processes is not None:
        why = f"{options.processes} processes were asked for"
        if len(options.devices) > 1:
            why = f"{len(options.devices)} devices have a process each"
        raise PlanError(
            f"--no-isolate runs callers in this process, and {why}: leave one of them out"
        )
    from inferload.callers.processes.early import not_early
    from inferload.machine.caches import keep_what_torch_compiles

    not_early()
    observer.stage("importing torch")
    with AtOnce():
        keep_what_torch_compiles()
        from inferload.callers.local.crew import LocalCrew
        from inferload.targets.loading import calling_state, grad_mode, load
        from inferload.targets.placing import Placement
    with calling_state(source.autocast):
        placement = Placement(device=options.device_of(0), transfers=options.transfers)
        loaded = load(source, observer.stage, placement=placement, timeout_s=options.timeout_s)
        with (
            grad_mode(source.grad),
            LocalCrew(loaded.target, loaded.given, options, load_s=loaded.load_s) as crew,
        ):
            yield crew
