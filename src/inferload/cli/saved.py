"""The commands on saved results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from inferload.cli import output


def report_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The JSON of a saved run.")],
) -> None:
    """Draw the report of a saved run again."""
    from inferload.errors import ResultFormatError
    from inferload.storage import load_result

    result = load_result(file)
    try:
        output.print_report(result)
    except (ArithmeticError, IndexError, TypeError, ValueError) as error:
        raise ResultFormatError(
            f"{file} was changed after it was saved: its report cannot be drawn ({error})"
        ) from error
