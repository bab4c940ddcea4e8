"""What the reports of all studies have: the lines above, and what is doubtful."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from inferload.units import milliseconds_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import RenderableType

    from inferload.records.distribution import Estimate
    from inferload.records.figures import RunWarning


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


def quoted_text(estimate: Estimate | None) -> str:
    """A quantile in milliseconds that is quoted, or a dash."""
    return "-" if estimate is None else milliseconds_text(estimate.value)


def wanting_note(more_calls: Iterable[Mapping[str, int]], names: Sequence[str]) -> str:
    """What the dashes of a table need: of each quantile, how many more calls of its lines.

    >>> wanting_note([{"p99": 350, "p999": 9000}, {"p99": 12}], ("p50", "p99"))
    '-  not quoted; more calls needed: p99 12 to 350'
    >>> wanting_note([{}], ("p50", "p99"))
    ''
    """
    lines = list(more_calls)
    texts = []
    for name in names:
        wanted = sorted(one[name] for one in lines if name in one)
        if wanted:
            upto = f" to {wanted[-1]:,}" if wanted[-1] != wanted[0] else ""
            texts.append(f"{figure_name(name)} {wanted[0]:,}{upto}")
    return f"-  not quoted; more calls needed: {', '.join(texts)}" if texts else ""


def captioned(*notes: str) -> str | None:
    """The notes under a table, of which some may be empty."""
    return "; ".join(one for one in notes if one) or None


def change_text(ratio: float | None) -> str:
    """A ratio as a change; as a factor where that reads better.

    >>> change_text(1.05), change_text(12.0), change_text(0.02)
    ('+5.0%', 'x12', 'x0.02')
    """
    if ratio is None:
        return "-"
    return f"{ratio - 1:+.1%}" if 1 / LARGEST_PERCENT < ratio < LARGEST_PERCENT else f"x{ratio:.3g}"


def interval_text(low: float | None, high: float | None) -> str:
    """The ends of an interval of a ratio, both as changes or both as factors.

    >>> interval_text(0.98, 1.05), interval_text(0.02, 1.05)
    ('-2.0% to +5.0%', 'x0.02 to x1.05')
    """
    ends = [change_text(low), change_text(high)]
    if any(one.startswith("x") for one in ends):
        ends = ["-" if one is None else f"x{one:.3g}" for one in (low, high)]
    return " to ".join(ends)


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


_EIGHTHS = " ▏▎▍▌▋▊▉"


def bar(share: float, width: int) -> str:
    """A bar of so many cells for a share of 1; whatever is more than nothing shows.

    >>> bar(0.5, 4), bar(1e-9, 4), bar(0, 4)
    ('██', '▏', '')
    """
    eighths = round(min(share, 1.0) * width * 8)
    if share > 0:
        eighths = max(eighths, 1)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
