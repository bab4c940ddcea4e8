"""What a session of pytest is told at its end: every run, and what comparisons came to."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

from inferload.report.text.parts import change_text, figure_name
from inferload.report.text.run import plain_text
from inferload.report.text.several import several_table
from inferload.testing.suite import unjudged
from inferload.units import duration_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inferload.studies.records.comparison import Comparison
    from inferload.testing.suite import Suite

_TOLD = {"throughput", "p50", "p99"}


def summary_lines(suite: Suite, width: int) -> list[tuple[str, dict[str, bool]]]:
    """Lines no wider than this, each with the colours that it is written in."""
    found: list[tuple[str, dict[str, bool]]] = []
    found.append((plain_text(several_table(suite.results), width), {}))
    for text, colour in _texts(suite):
        markup = {colour: True} if colour else {}
        found += [(line, markup) for line in wrap(text, width, break_on_hyphens=False)]
    return found


def _texts(suite: Suite) -> Iterator[tuple[str, str]]:
    for key, found in suite.comparisons.items():
        before = "its baseline"
        if suite.against is not None and not found.is_of_results:
            before = suite.against.name
        unsure = unjudged(found) is not None or bool(found.untold)
        yield f"{key} against {before}: {_found_text(found)}", "yellow" if unsure else ""
    for why in suite.apart.values():
        yield why, "yellow"
    if suite.trouble is not None:
        yield suite.trouble, "red"
    if suite.no_revision is not None:
        yield f"{suite.no_revision}: saved runs are compared with instead", "yellow"
    if suite.baseline_path is not None:
        new = [key for key in suite.results if key not in suite.baseline]
        if new:
            yield f"not in {suite.baseline_path}: {', '.join(new)}", ""
        if any(found.is_of_results for found in suite.comparisons.values()):
            coarse = (
                f"The runs of {suite.baseline_path} are of another time: they show what became "
                "far slower, and nothing finer. --inferload-against REV calls both revisions in "
                "turn."
            )
            yield coarse, ""


def _found_text(found: Comparison) -> str:
    """What a comparison came to: changes, and gates."""
    changes = []
    for one in found.differences:
        if one.figure in _TOLD:
            text = f"{figure_name(one.figure)} {change_text(one.ratio)}"
            if one.low is not None and one.high is not None:
                text += f" ({change_text(one.low)} to {change_text(one.high)})"
            changes.append(text)
    said = [", ".join(changes), unjudged(found) or _gates_text(found)]
    if found.needs_s is not None:
        needs = duration_text(found.needs_s)
        said.append(f"about {needs} would tell here (--inferload-time-limit)")
    if found.why_runs and found.differences:
        said.append(f"in {found.differences[0].pairs} pairs of whole runs: {found.why_runs}")
    return "; ".join(one for one in said if one)


def _gates_text(found: Comparison) -> str:
    quoted = {one.figure for one in found.differences}
    few = {gate for gate, _ in found.gates if gate.figure not in quoted}
    return ", ".join(
        f"{gate} {what}" + f" (too few calls for {gate.figure})" * (gate in few)
        for gate, what in found.gates
    )
