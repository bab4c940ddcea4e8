"""What a comparison came to: verdicts with intervals, gates, and what else differs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from inferload.report.parts import study_header, study_warnings
from inferload.units import milliseconds_text, rate_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from inferload.studies.records import Comparison, Difference

NAMES = {"p999": "p99.9", "p9999": "p99.99"}
STYLES = {"faster": "green", "slower": "red"}
GATES = {
    "held": "held",
    "crossed": "crossed, beyond noise",
    "open": "not certain: its interval has parts on both sides, or the figure was not quoted",
}


def comparison_report(found: Comparison) -> RenderableType:
    """What differs beside the figures first, then each figure, then gates."""
    runs = "two saved results, by their own intervals"
    if len(found.runs) != 2:
        runs = f"{len(found.runs) // 2} pairs, A B B A, each run in a process of its own"
    if found.status != "complete":
        runs += f"; {found.status} after {len(found.runs)} runs"
    rows = {"A": found.a, "B": found.b, "runs": runs}
    parts: list[RenderableType] = [study_header(rows, found.environment)]
    if found.outputs:
        style = "" if found.outputs_alike else "bold red"
        parts.append(Text(f"outputs  {found.outputs}", style=style))
    if found.unlike:
        parts += [Text(), Text("What else is different (A -> B):", style="bold")]
        parts += [Text(f"  {line}", style="yellow") for line in found.unlike]
    parts += [Text(), _table(found) if found.differences else Text("no figures to compare yet")]
    parts += [Text(), *_verdicts(found)] if found.differences else []
    parts.append(
        Text(
            "B over A with its 95 % interval: each line by itself errs in 5 of 100. A detectable "
            "difference would have been found in 4 of 5 such comparisons.",
            style="dim",
        )
    )
    if len(found.runs) == 2:
        parts.append(
            Text(
                "What the machine did between the two runs is in no interval: models compared "
                "together, in pairs, say more.",
                style="dim",
            )
        )
    for gate, what in found.gates:
        style = "bold red" if what == "crossed" else "bold" if what == "held" else "yellow"
        parts.append(Text(f"gate {gate}: {GATES[what]}", style=style))
    return Group(*parts, *study_warnings(found.warnings))


def _verdicts(found: Comparison) -> list[Text]:
    """What may be claimed, in a line for each verdict."""
    lines = []
    for verdict in ("slower", "faster", "no difference found"):
        names = [
            f"{NAMES.get(one.figure, one.figure)} {one.ratio - 1:+.1%}"
            for one in found.differences
            if one.verdict == verdict
        ]
        if names:
            said = f"B is {verdict}" if verdict in STYLES else verdict
            style = f"bold {STYLES[verdict]}" if verdict in STYLES else "bold"
            lines.append(Text(f"{said}: {', '.join(names)}", style=style))
    return lines


def _table(found: Comparison) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    for name in ("figure", "A", "B", "B / A", "from", "to", "detectable"):
        table.add_column(name, justify="left" if name == "figure" else "right", no_wrap=True)
    for one in found.differences:
        table.add_row(
            NAMES.get(one.figure, one.figure),
            _value(one, one.a),
            _value(one, one.b),
            f"{one.ratio - 1:+.1%}",
            "-" if one.low is None else f"{one.low - 1:+.1%}",
            "-" if one.high is None else f"{one.high - 1:+.1%}",
            "-" if one.detectable_fraction is None else f"{one.detectable_fraction:.1%}",
            style=STYLES.get(one.verdict),
        )
    return table


def _value(one: Difference, value: float) -> str:
    return f"{rate_text(value)}/s" if one.figure == "throughput" else milliseconds_text(value)
