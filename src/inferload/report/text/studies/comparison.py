"""What a comparison came to: verdicts with intervals, gates, and what else differs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from inferload.report.text.parts import (
    LARGEST_PERCENT,
    Preformatted,
    change_text,
    figure_name,
    study_header,
    study_warnings,
)
from inferload.report.text.studies.served import server_cost
from inferload.studies.differences import QUANTILES
from inferload.studies.records.comparison import CANNOT_TELL, CROSSED, KEPT
from inferload.units import count_text, duration_text, milliseconds_text, rate_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from inferload.studies.records.comparison import Comparison, Difference, Gate

SIGNED_RANK = 0.05
STYLES = {"faster": "green", "slower": "red"}
GATES = {KEPT: "kept", CROSSED: "crossed, beyond noise"}
# A chart of so many cells shows each interval, from the worst to the best of all.
CHART_CELLS = 41


def comparison_report(found: Comparison) -> RenderableType:
    """What differs beside the figures first, then each figure, then gates."""
    rows = {"A": found.a, "B": found.b, "runs": _how(found)}
    parts: list[RenderableType] = [study_header(rows, found.environment)]
    if found.outputs:
        style = "" if found.outputs_alike else "bold red"
        parts.append(Text(f"outputs  {found.outputs}", style=style))
    if any(found.failed_fractions):
        a, b = found.failed_fractions
        parts.append(
            Text(
                f"failed   {a:.2%} of A's calls and {b:.2%} of B's; figures are of those that "
                "returned",
                style="bold red",
            )
        )
    if found.unlike:
        parts += [Text(), Text("What else is different (A -> B):", style="bold")]
        parts += [Text(f"  {line}", style="yellow") for line in found.unlike]
    if not found.differences:
        return Group(*parts, Text(), Text("no figures to compare yet"))
    parts += server_cost(found)
    parts += [Text(), _table(found), Text(), _chart(found), Text(), *_verdicts(found)]
    parts += [Text(line, style="dim") for line in _notes(found)]
    parts += [_gate_text(found, gate, what) for gate, what in found.gates]
    return Group(*parts, *study_warnings(found.warnings))


def _how(found: Comparison) -> str:
    """How the two sides were compared."""
    if found.is_of_results:
        return "two saved results, by their own intervals"
    if not found.slices and not found.why_runs and found.status != "complete" and not found.runs:
        return f"{found.status} before there was a pair of processes"
    if not found.slices:
        how = f"{len(found.runs) // 2} pairs, A B B A, each run in a process of its own"
        if found.why_runs:
            how = f"whole runs in turn ({found.why_runs}): {how}"
        if found.status != "complete":
            how += f"; {found.status} after {len(found.runs)} runs"
        return how
    slices = sum(len(one.order) for one in found.slices)
    how = (
        f"{count_text(len(found.slices), 'pair')} of fresh processes, called in turn by "
        f"{slices:,} slices of "
        f"{duration_text(found.slices[0].slice_s)} each"
    )
    most = max(len(one.cores) for one in found.slices)
    if most:
        how += f", held to the same core{'s' * (most > 1)}"
    if found.status != "complete":
        return f"{how}; {found.status}"
    return f"{how}; {found.ended}" if found.ended else how


def _notes(found: Comparison) -> list[str]:
    """How the figures are to be read."""
    errs, often = "each line by itself errs in 5 of 100", "4 of 5"
    if found.slices:
        errs = (
            "each line by itself errs in 5 of 100, and what is said to be faster or slower in 5 of "
            "100 comparisons (Holm)"
        )
        often = "9 of 10"
    lines = [
        (
            f"B over A with its 95 % interval: {errs}. A change for "
            f"the worse as large as detectable would have been found in {often} such comparisons."
        )
    ]
    if found.slices:
        lines.append(
            "A and B are geometric means over pairs of processes. So is B / A, where each pair is "
            "the mean over its pairs of slices without the tenth at either end."
        )
    elif found.is_of_results:
        lines.append(
            "What the machine did between the two runs is in no interval: equals run one after the "
            "other often differ. Models compared together, in pairs, say more."
        )
    else:
        lines.append("A and B are geometric means over the runs of each; B / A is of the pairs.")
    for one in found.differences:
        if one.p_signed_rank is None or one.low is None or one.high is None:
            continue
        excludes = not one.low <= 1 <= one.high
        if (one.p_signed_rank <= SIGNED_RANK) != excludes:
            lines.append(
                f"{figure_name(one.figure)}: by signed ranks (Wilcoxon, "
                f"p = {one.p_signed_rank:.2g}) "
                + ("this could be chance" if excludes else "there may be a difference")
                + "; a run that was disturbed moves the interval more. More pairs help."
            )
    lines += [
        f"{figure_name(figure)} is left out: {where}{_more_calls(found)}"
        for figure, where in _left_out(found)
    ]
    return lines


def _more_calls(found: Comparison) -> str:
    """What has the calls for a quantile that was not quoted."""
    if not found.slices:
        return "longer runs have the calls"
    return "fewer --pairs in as long a --time-limit have more calls each"


def _left_out(found: Comparison) -> list[tuple[str, str]]:
    """Figures that some of the runs quote, or that a gate is of, and that were not compared."""
    there = {one.figure for one in found.differences}
    gated = {gate.figure for gate, _ in found.gates}
    lines = []
    for figure in QUANTILES:
        quoted = sum(
            getattr(one.summary.response_ms, figure, None) is not None
            for one in found.runs
            if one.summary is not None
        )
        if figure not in there and (quoted or figure in gated):
            where = f"quoted in {quoted} of {len(found.runs)} runs; "
            lines.append((figure, "" if found.slices else where))
    return lines


def _gate_text(found: Comparison, gate: Gate, what: str) -> Text:
    """A gate, what came of it, and where that is nothing, why."""
    mine = [one for one in found.differences if one.figure == gate.figure and one.low is not None]
    if what == CANNOT_TELL and found.fails_more:
        said = "not kept: more of B's calls fail"
    elif what == CANNOT_TELL and not mine:
        said = f"cannot tell: {figure_name(gate.figure)} was not quoted; {_more_calls(found)}"
    elif what == CANNOT_TELL:
        one = mine[0]
        between = f"{change_text(one.low)} to {change_text(one.high)}"
        edge, low, high = 1 + gate.fraction, one.low or 0.0, one.high or math.inf
        said = f"cannot tell: {between} has parts on both sides"
        if not low <= edge <= high:
            said = f"cannot tell: {between}, beside {len(found.gates)} gates, could still be chance"
        if found.needs_s is not None:
            minutes = math.ceil(found.needs_s / 60)
            said += f"; needs about {count_text(minutes, 'minute')} here (--time-limit {minutes}m)"
    elif what == CROSSED and found.is_of_results:
        said = "crossed, by the two runs' own intervals"
    else:
        said = GATES[what]
    failed = what == CROSSED or (what == CANNOT_TELL and found.fails_more)
    style = "bold red" if failed else "bold" if what == KEPT else "yellow"
    return Text(f"gate {gate}: {said}", style=style)


def _chart(found: Comparison) -> Preformatted:
    """A line for each figure: its interval, beside the middle where A and B are equal."""
    known = [one for one in found.differences if one.low is not None and one.high is not None]
    if not known:
        return Preformatted([])
    ends = [abs(math.log(value)) for one in known for value in (one.low, one.high) if value]
    span = min(max([*ends, math.log(1.02)]), math.log(LARGEST_PERCENT))
    middle = CHART_CELLS // 2

    def cell(ratio: float) -> int:
        return middle + round(max(-1.0, min(math.log(ratio) / span, 1.0)) * middle)

    lines = []
    for one in known:
        cells = [" "] * CHART_CELLS
        cells[middle] = "│"
        low, high = cell(one.low or 1e-9), cell(one.high or 1e9)
        for place in range(low, high + 1):
            cells[place] = "─"
        cells[low], cells[high] = "├", "┤"
        cells[cell(one.ratio)] = "●"
        lines.append(
            Text(
                f"{figure_name(one.figure):>10}  {''.join(cells)}",
                style=STYLES.get(one.verdict, ""),
            )
        )
    left, right = change_text(math.exp(-span)), change_text(math.exp(span))
    scale = f"{left}{'equal':^{CHART_CELLS - len(left) - len(right)}}{right}"
    return Preformatted([*lines, Text(f"{'':>10}  {scale}", style="dim")])


def _verdicts(found: Comparison) -> list[Text]:
    """What may be claimed, in a line for each verdict."""
    lines = []
    for verdict in ("slower", "faster", "no difference found"):
        names = [
            f"{figure_name(one.figure)} {change_text(one.ratio)}"
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
            figure_name(one.figure),
            _value(one, one.a),
            _value(one, one.b),
            change_text(one.ratio),
            change_text(one.low),
            change_text(one.high),
            "-" if one.detectable_fraction is None else f"{one.detectable_fraction:.1%}",
            style=STYLES.get(one.verdict),
        )
    return table


def _value(one: Difference, value: float) -> str:
    return f"{rate_text(value)}/s" if one.figure == "throughput" else milliseconds_text(value)
