"""The commands on saved results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from inferload.cli import flags, output


def report_command(
    file: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="The JSON of a saved run, or of a study; of several runs, side by side.",
        ),
    ],
    html: flags.Html = None,
    markdown: flags.Markdown = None,
) -> None:
    """Draw the report of a saved run or study again, or of several runs side by side."""
    from inferload.errors import PlanError, ResultFormatError
    from inferload.storage import load_result
    from inferload.studies.files import is_study, json_of, load_study

    reports = output.Reports(html=html, markdown=markdown)
    reports.check()
    for path in (html, markdown):
        if path is not None and any(path.resolve() == one.resolve() for one in file):
            raise PlanError(f"{path} is what the report is drawn from: name another file")
    studies = [is_study(json_of(one)) for one in file]
    if len(file) > 1 and any(studies):
        name = file[studies.index(True)]
        raise PlanError(f"{name} is a study, which is drawn alone; several files are of runs")
    found: output.Shown
    if len(file) > 1:
        found = [load_result(one) for one in file]
    else:
        found = load_study(file[0]) if studies[0] else load_result(file[0])
    try:
        written = output.deliver(found, reports)
    except (ArithmeticError, IndexError, TypeError, ValueError) as error:
        raise ResultFormatError(
            f"{file[0]} was changed after it was saved: its report cannot be drawn ({error})"
        ) from error
    if not written:
        raise typer.Exit(output.EXIT_FAILED)
