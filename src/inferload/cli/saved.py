"""The commands on saved results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from inferload.cli import output


def report_command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The JSON of a saved run, or of a study.")
    ],
) -> None:
    """Draw the report of a saved run or study again."""
    from inferload.errors import ResultFormatError
    from inferload.storage import load_result
    from inferload.studies.files import is_study, json_of, load_study

    found = load_study(file) if is_study(json_of(file)) else load_result(file)
    try:
        output.print_any(found)
    except (ArithmeticError, IndexError, TypeError, ValueError) as error:
        raise ResultFormatError(
            f"{file} was changed after it was saved: its report cannot be drawn ({error})"
        ) from error
