"""What the reports of all studies have: the lines above, and what is doubtful."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from inferload.records import RunWarning


#: What became of a run that is not complete.
STATUS = {
    "failed": "the target raised: the figures cover the calls before",
    "crashed": "the target ended its process: the figures cover the calls that had finished",
    "rank lost": "a rank was lost: the figures are those of the others",
    "timed out": "a call did not return: the figures cover the calls before",
    "interrupted": "interrupted: the figures cover the calls until then",
}
_NAMES = {"p999": "p99.9", "p9999": "p99.99"}
#: A ratio beyond it, or below its inverse, is told as a factor.
LARGEST_PERCENT = 4.0


@dataclass(frozen=True, slots=True)
class Preformatted:
    """Lines whose blanks matter: code, or a drawing."""

    lines: Sequence[Text]

    def __rich__(self) -> Group:
        return Group(*self.lines)

    def __str__(self) -> str:
        return textwrap.dedent("\n".join(line.plain.rstrip() for line in self.lines))


def figure_name(name: str) -> str:
    """A figure as people write it.

    >>> figure_name("p999"), figure_name("p50"), figure_name("throughput")
    ('p99.9', 'p50', 'throughput')
    """
    return _NAMES.get(name, name)


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
    """The warnings after an empty line; nothing if there are none."""
    return [Text(), warnings_grid(warnings)] if warnings else []


def warnings_grid(warnings: Sequence[RunWarning]) -> Table:
    """A line for each warning, and one with what to do."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style="yellow", no_wrap=True)
    grid.add_column()
    for one in warnings:
        grid.add_row("!", Text(f"{one.message} [{one.code}]", style="yellow"))
        grid.add_row("", Text(f"-> {one.hint}"))
    return grid
