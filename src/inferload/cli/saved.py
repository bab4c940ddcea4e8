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
    from inferload.storage import load_result

    output.print_report(load_result(file))
