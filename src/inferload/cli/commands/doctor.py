"""``inferload doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from inferload.cli import output, terminal


def doctor_command(
    packages: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PACKAGE.pt2]...",
            help="AOTInductor packages: whether they can be loaded here.",
        ),
    ] = None,
) -> None:
    """Say what this machine offers, whether native callers are available, and why not.

    Of packages that are named: whether they can be loaded, and nothing else; 1 if one cannot.
    """
    from inferload.runs.doctor import findings, package_finding

    out = terminal.console()
    found = [package_finding(path) for path in packages or ()] or findings(output.errors.print)
    for finding in found:
        mark = Text("ok  ", "green") if finding.well else Text("no  ", "yellow")
        out.print(Text.assemble(mark, (f"{finding.name}: ", "bold"), finding.found), soft_wrap=True)
        if not finding.well and finding.hint:
            out.print(f"    -> {finding.hint}", soft_wrap=True)
    if output.unprinted() or (packages and not all(finding.well for finding in found)):
        raise typer.Exit(output.EXIT_FAILED)
