"""``inferload doctor``."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from inferload.cli import output


def doctor_command() -> None:
    """Say what this machine offers, whether native callers are available, and why not."""
    from inferload.doctor import findings

    out = Console(highlight=False, markup=False)
    for finding in findings(output.errors.print):
        mark = Text("ok  ", "green") if finding.well else Text("no  ", "yellow")
        out.print(Text.assemble(mark, (f"{finding.name}: ", "bold"), finding.found), soft_wrap=True)
        if not finding.well and finding.hint:
            out.print(f"    -> {finding.hint}", soft_wrap=True)
