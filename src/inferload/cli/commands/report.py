"""The commands on saved results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inferload.cli import output
from inferload.cli.request import flags

if TYPE_CHECKING:
    from inferload.records.result import RunResult


@flags.with_options("report")
def report_command(
    file: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="The JSON of a saved run, or of a study; of several runs, side by side. Or the "
            "FILE.partial of a run that was killed.",
        ),
    ],
    **words: Any,
) -> None:
    """Draw the report of a saved run or study again, or of several runs side by side."""
    from inferload.errors import PlanError, ResultFormatError
    from inferload.files import beside, check_apart
    from inferload.report.text.several import side_by_side
    from inferload.runs.partial.finding import is_partial
    from inferload.runs.saved import json_of
    from inferload.studies.records.files import is_study
    from inferload.studies.records.suite import is_suite

    reports = output.Reports(html=words["html"], markdown=words["markdown"])
    reports.check()
    check_apart(reports.paths, [*file, *(beside(one, ".calls") for one in file)])
    contents = [{} if is_partial(one) else json_of(one) for one in file]
    studies = [is_study(one) or is_suite(one) for one in contents]
    if len(file) > 1 and any(studies):
        name = file[studies.index(True)]
        raise PlanError(f"{name} is no single run and is drawn alone; several files are of runs")
    found: output.Found
    if len(file) > 1:
        found = side_by_side([_run_of(one) for one in file])
    else:
        found = _run_of(file[0]) if not studies[0] else _of_several_runs(file[0], contents[0])
    try:
        written = output.deliver(found, reports)
    except (ArithmeticError, IndexError, TypeError, ValueError) as error:
        raise ResultFormatError(
            f"{file[0]} was changed after it was saved: its report cannot be drawn ({error})"
        ) from error
    if not written:
        raise typer.Exit(output.EXIT_FAILED)


def _run_of(path: Path) -> RunResult:
    from inferload.runs.partial.finding import found_in, is_partial
    from inferload.runs.saved import load_result

    return found_in(path) if is_partial(path) else load_result(path)


def _of_several_runs(path: Path, content: Any) -> output.Found:
    from inferload.studies.records.files import load_study
    from inferload.studies.records.suite import is_suite, load_suite

    return load_suite(path) if is_suite(content) else load_study(path)
