"""``inferload explain``: what bounds a model, by changes that are tried."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from inferload.cli import output
from inferload.cli.request import flags

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inferload.studies.child.bench import ChildBench
    from inferload.studies.records.explanation import Explanation


@flags.with_options("explain")
def explain_command(
    context: typer.Context,
    model: flags.Model,
    time_limit: Annotated[
        str, typer.Option(metavar="TIME", help="About how long it may take in all.")
    ] = "2m",
    duration: Annotated[
        str, typer.Option(metavar="TIME", help="How long the run as it was asked for lasts.")
    ] = "5s",
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Save the explanation.")] = None,
    **words: Any,
) -> None:
    """Say what bounds MODEL, by changes that are tried, and which of them make more.

    The run as asked, and then, in rounds of fresh processes, each change in turn with it: callers,
    threads, form, processes, batch, cores, allocator; on a device also CUDA graphs, transfers,
    streams and telemetry. What has no effect is named as such.
    """
    from inferload import units
    from inferload.cli.interrupts import EXIT_INTERRUPTED, noticed
    from inferload.cli.progress import StudyProgress
    from inferload.cli.request.made_by import made_by
    from inferload.cli.silent import Silent
    from inferload.cli.studies import asked_of, identity_of
    from inferload.files import check_writable
    from inferload.machine.scratch import scratch
    from inferload.records.endings import CallError, TargetCrashed
    from inferload.studies.child.bench import ChildBench
    from inferload.studies.explain.explainer import run_explain
    from inferload.studies.explain.plan import ExplainPlan
    from inferload.studies.records.endings import StudyInterrupted
    from inferload.studies.tune.code import command_with

    asked = asked_of(context, {"time_limit"})
    asked.check_reports()
    if asked.json is not None:
        check_writable(asked.json)
    given = identity_of(asked)
    plan = ExplainPlan(
        target=asked.model,
        asked=given,
        options=asked.options(),
        time_limit_s=units.duration_s(time_limit),
        command=lambda own, environment: command_with(given, own, environment),
    )
    progress = StudyProgress(output.errors)
    code = 0
    with ExitStack() as stack:
        packages = stack.enter_context(scratch())

        def host(environment: Mapping[str, str], number: int) -> ChildBench:
            del number
            return stack.enter_context(
                ChildBench(asked.source(), environment=environment, packages=packages)
            )

        try:
            found = run_explain(plan, host({}, 0), host, Silent() if asked.quiet else progress)
        except StudyInterrupted as interrupt:
            noticed()
            progress.close()
            output.say(str(interrupt))
            found = cast("Explanation", interrupt.study)
            code = EXIT_INTERRUPTED
        except (CallError, TargetCrashed) as error:
            progress.close()
            output.say(output.with_place(error))
            crashed = isinstance(error, TargetCrashed)
            raise typer.Exit(output.EXIT_CRASHED if crashed else output.EXIT_FAILED) from None
        finally:
            progress.close()
    _deliver(replace(found, made_by=made_by()), asked.json, asked.reports, code)


def _deliver(found: Explanation, json: Path | None, reports: output.Reports, code: int) -> None:
    from inferload.cli.studies import written

    saved = written(found, json)
    if not output.deliver(found, reports) or not saved or code:
        raise typer.Exit(code or output.EXIT_FAILED)
