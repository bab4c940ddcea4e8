"""What every benchmark needs: alternating rounds, rows of figures, and the table."""

from __future__ import annotations

import platform
import re
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
from rich.console import Console
from rich.table import Table

from inferload.machine.hardware import cpu_model, usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")
# The part of docs/benchmarks.md that needs another machine.
GPU_HEADING = "## On a GPU"
# The parts of docs/accuracy.md that are measured by themselves.
FORECASTS = "## Forecasts"
GPU_FORECASTS = "## Forecasts on a GPU"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table."""

    measure: str
    ours: str
    reference: str
    figure: str
    spread: str
    reach: str

    @property
    def met(self) -> str:
        """Whether the figure is within its reach."""
        if self.reach in {"", "-"}:
            return ""
        got, wanted = _number(self.figure), _number(self.reach)
        if self.reach.startswith("within"):
            well = abs(got - 1) <= wanted / 100
        else:
            well = got >= wanted if self.reach.startswith(">") else got <= wanted
        return "yes" if well else "no"


def _number(text: str) -> float:
    found = re.search(r"[-+]?[\d,]+(\.\d+)?", text)
    if found is None:
        raise ValueError(f"there is no number in {text!r}")
    return float(found[0].replace(",", ""))


def alternated(rounds: int, *timed: Callable[[], T]) -> list[list[T]]:
    """Run each function once a round, in turn; one list of values a function."""
    values: list[list[T]] = [[] for _ in timed]
    for _ in range(rounds):
        for found, function in zip(values, timed, strict=True):
            found.append(function())
    return values


def to_and_fro(rounds: int, *timed: Callable[[], T]) -> list[list[T]]:
    """As ``alternated``, every second round backwards: clocks fall while a device is at work."""
    values: list[list[T]] = [[] for _ in timed]
    order = list(range(len(timed)))
    for _ in range(rounds):
        for place in order:
            values[place].append(timed[place]())
        order.reverse()
    return values


def middle_and_range(values: list[float]) -> tuple[float, float, float]:
    """The median, the least and the greatest."""
    return statistics.median(values), min(values), max(values)


def ratio_row(
    measure: str, rounds: int, ours: Callable[[], float], other: Callable[[], float], reach: str
) -> Row:
    """Ours / the reference, round by round."""
    mine, its = alternated(rounds, ours, other)
    ratios = [a / b for a, b in zip(mine, its, strict=True)]
    return Row(
        measure=measure,
        ours=f"{statistics.median(mine):,.0f} ns",
        reference=f"{statistics.median(its):,.0f} ns",
        figure=f"{statistics.median(ratios):.3f}x",
        spread=f"{min(ratios):.3f}-{max(ratios):.3f}",
        reach=reach,
    )


def rates_row(measure: str, mine: list[float], its: list[float], reach: str) -> Row:
    """Calls per second of two sides that alternated, and the ratio round by round."""
    ratios = [a / b for a, b in zip(mine, its, strict=True)]
    return Row(
        measure=measure,
        ours=f"{statistics.median(mine):,.0f}/s",
        reference=f"{statistics.median(its):,.0f}/s",
        figure=f"{statistics.median(ratios):.2f}x",
        spread=f"{min(ratios):.2f}-{max(ratios):.2f}",
        reach=reach,
    )


def sections_of(path: Path) -> str:
    """The sections of a page, from its first heading of the second level on."""
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    return before[before.find("\n## ") :] if "\n## " in before else ""


def write_section(path: Path, heading: str, text: str) -> None:
    """Put a section into a page: in place of what it was, or else behind what is there."""
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    head, *sections = re.split(r"^(?=## )", before, flags=re.MULTILINE)
    section = f"{heading}\n\n{text.strip()}\n"
    there = [one.splitlines()[0] for one in sections]
    if heading in there:
        sections[there.index(heading)] = section
    else:
        sections.append(section)
    parts = [one.rstrip() + "\n" for one in (head, *sections) if one.strip()]
    path.write_text("\n".join(parts), encoding="utf-8")


def machine() -> str:
    """What was measured on."""
    return (
        f"{cpu_model()}, {usable_cores():g} cores, {torch.backends.cpu.get_cpu_capability()}, "
        f"{platform.system()}, "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )


def print_rows(rows: list[Row], rounds: int) -> None:
    """Print the table."""
    table = Table(title=f"{rounds} alternating rounds, median", caption=machine())
    for name in ("measure", "inferload", "other", "figure", "range", "reach", "met"):
        table.add_column(name, justify="left" if name == "measure" else "right")
    for row in rows:
        table.add_row(
            row.measure, row.ours, row.reference, row.figure, row.spread, row.reach, row.met
        )
    Console().print(table)


def markdown(rows: list[Row], rounds: int) -> str:
    """The page that ``make bench`` writes."""
    table = [
        f"| {r.measure} | {r.ours} | {r.reference} | {r.figure} | {r.spread} "
        f"| {r.reach} | {r.met} |"
        for r in rows
    ]
    return f"""# Benchmarks

Written by `make bench`. inferload against `torch.utils.ThroughputBenchmark` and MLPerf LoadGen,
alternating in one process: medians, and the median ratio of {rounds} rounds with their range.
No-ops against the reference class take {7 * rounds} rounds, live progress {3 * rounds};
memory, set-up, summary and the highest rate {max(rounds // 3, 1)}.

Machine: {machine()}.

| measure | inferload | other | figure | range | reach | met |
|---|---|---|---|---|---|---|
{chr(10).join(table)}

"Reach" is what was set out for two idle cores, "met" whether the median is within it.
"Other" is the reference class unless the row names another. Time a call is the wall time of the
measured part / calls, all callers together. Both sides run with the same torch settings; MiniLM
runs with one intra-op thread a call, on eight sentences drawn at random. Bare loops are the least
that any harness could take: where they are not within the reach, nothing is.

The machine is a virtual one with neighbours: for seconds at a time all code on it runs at about
0.6 of its speed, Python more so than system calls. A round in which one side met that state and
the other did not falls far from the median; the range shows such rounds too.
"""
