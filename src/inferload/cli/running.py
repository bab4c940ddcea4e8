"""A run that the command line drives: in other processes or in this one, then saved and shown."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from inferload.cli import EXIT_INTERRUPTED, output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from inferload.cli.asked import Asked
    from inferload.crew import Crew, Observer
    from inferload.model_source import ModelSource
    from inferload.records import RunResult
    from inferload.run_options import RunOptions


def run_here(asked: Asked) -> None:
    """Run, save and report."""
    from inferload.runs import run_crew

    asked.check_outputs()
    options = asked.options()

    def run(observer: Observer) -> RunResult:
        with crew_for(asked, options, observer) as crew:
            return run_crew(crew, options, observer)

    run_and_report(asked, options, run)


def run_and_report(
    asked: Asked, options: RunOptions, run: Callable[[Observer], RunResult | None]
) -> None:
    """Run with progress, save and report what comes of it; nothing if nothing does.

    Raises:
        typer.Exit: with the exit code, unless that is 0.
    """
    from inferload.errors import CallError, RunInterrupted, TargetCrashed
    from inferload.report.progress import Progress

    progress = Progress(output.errors, options.calls, options.limit_s)
    failure: BaseException | None = None
    result: RunResult | None
    try:
        result = run(Silent() if asked.quiet else progress)
    except (CallError, RunInterrupted, TargetCrashed) as error:
        if error.result is None:
            progress.close()
            output.say(str(error))
            raise typer.Exit(_exit_code(None, error, saved=True)) from None
        result, failure = error.result, error
    finally:
        progress.close()
    if result is None:
        return
    saved = asked.json is None or output.save(result, asked.json)
    output.print_report(result)
    if failure is not None:
        output.say(output.with_place(failure))
    code = _exit_code(result, failure, saved=saved)
    given_up = any(one.code == "calls-given-up" for one in result.warnings)
    if not asked.isolate and (given_up or result.status == "timed out"):
        sys.stdout.flush()  # a normal exit would tear torch down under a call
        os._exit(code)
    if code:
        raise typer.Exit(code)


def _exit_code(result: RunResult | None, failure: BaseException | None, *, saved: bool) -> int:
    from inferload.errors import RunInterrupted, TargetCrashed

    if isinstance(failure, RunInterrupted):
        return EXIT_INTERRUPTED
    if isinstance(failure, TargetCrashed):
        return output.EXIT_CRASHED
    if failure is not None or not saved or result is None or result.summary.failed_calls:
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
    del observer
    from inferload.processes.crew import ProcessCrew

    with ProcessCrew(options, source=source) as crew:
        yield crew


@contextmanager
def _in_this_process(
    source: ModelSource, options: RunOptions, observer: Observer
) -> Iterator[Crew]:
    from inferload.errors import PlanError

    if options.processes is not None:
        raise PlanError(
            f"--no-isolate runs callers in this process, and {options.processes} processes were "
            "asked for: leave one of them out"
        )
    from inferload.signals import PutOff

    observer.stage("importing torch")
    with PutOff():
        import torch

        from inferload.loading import calling_state, load
        from inferload.local_crew import LocalCrew
    with calling_state(source.autocast):
        loaded = load(source, observer.stage)
        with (
            torch.inference_mode(),
            LocalCrew(loaded.target, loaded.given, options, load_s=loaded.load_s) as crew,
        ):
            yield crew


class Silent:
    """An observer who says nothing."""

    def stage(self, text: str) -> None:
        """Nothing."""

    def progress(self, finished_calls: int, elapsed_s: float) -> None:
        """Nothing."""
