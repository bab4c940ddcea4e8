"""What the reports of all studies have: the lines above, and what is doubtful."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from inferload.records import RunWarning


#: A ratio beyond it, or below its inverse, is told as a factor.
LARGEST_PERCENT = 4.0


def change_text(ratio: float | None) -> str:
    """A ratio as a change; as a factor where that reads better.

    >>> change_text(1.05), change_text(12.0), change_text(0.02)
    ('+5.0%', 'x12', 'x0.02')
    """
    if ratio is None:
        return "-"
    return f"{ratio - 1:+.1%}" if 1 / LARGEST_PERCENT < ratio < LARGEST_PERCENT else f"x{ratio:.3g}"


def study_header(rows: dict[str, str], environment: dict[str, Any]) -> Table:
    """What was run, and on what."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for name, text in rows.items():
        grid.add_row(name, Text(text, style="" if name == "runs" else "bold cyan"))
    if environment:
        found = environment
        cores = f"{found.get('usable_cores', 0):g} of {found.get('cores')} cores"
        devices = ", ".join(found.get("devices", []))
        grid.add_row(
            "machine", f"{found.get('cpu')}, {cores}" + (f", {devices}" if devices else "")
        )
        grid.add_row("build", f"torch {found.get('torch')}, Python {found.get('python')}")
    return grid


def study_warnings(warnings: Sequence[RunWarning]) -> list[RenderableType]:
    """A line for each warning, and one with what to do."""
    if not warnings:
        return []
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style="yellow", no_wrap=True)
    grid.add_column()
    for one in warnings:
        grid.add_row("!", Text(f"{one.message} [{one.code}]", style="yellow"))
        grid.add_row("", Text(f"-> {one.hint}"))
    return [Text(), grid]
