"""``inferload export``: a saved result for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from inferload.cli import output
from inferload.report.export.writing import FORMATS


def export_command(
    file: Annotated[Path, typer.Argument(metavar="RUN.json", help="A saved run.")],
    to: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="; ".join(f"{ending}: {what}" for ending, (_, what) in FORMATS.items()),
        ),
    ],
    of: Annotated[
        str, typer.Option(help="Of a .hgrm: response, service or queue time, first piece or gap.")
    ] = "response",
) -> None:
    """Write a saved run for other tools; the ending of each file says how."""
    from inferload.errors import PlanError
    from inferload.report.export.writing import check_export, export
    from inferload.runs.saved import load_result, log_path

    for path in to:
        check_export(path)
        if of != "response" and all(one.suffix.lower() != ".hgrm" for one in to):
            raise PlanError(f"--of {of} goes with a .hgrm, and none is asked for: leave it out")
        if path.resolve() in {file.resolve(), log_path(file).resolve()}:
            raise PlanError(f"{path} is the result itself: name another file")
    result = load_result(file)
    for path in to:
        try:
            left_out = export(result, path, duration=of)
        except OSError as error:
            output.say(f"{path} could not be written: {error.strerror or error}")
            raise typer.Exit(output.EXIT_FAILED) from None
        if left_out is not None:
            output.errors.print(f"{path}: {left_out}")
