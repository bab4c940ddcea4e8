"""What a report says of the settings that a search was made for, the best and the others."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from inferload.report.text.parts import bar
from inferload.studies.records.settings import Settings, setting_text, unit_of
from inferload.studies.search import value_text
from inferload.units import rate_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from inferload.studies.records.max_rate import MaxRate

BAR_CELLS = 10
_MARKS = {
    "<": "<  cannot be the best: it was tried a little above, or makes no more",
    "?": "?  not decided: whether it is better was not certain; a longer --time-limit may tell",
}


def rivals_table(search: MaxRate) -> RenderableType:
    """A line for each setting: the highest rate that keeps the limits, and what was seen there.

    Below it, why a setting failed.
    """
    every = [search, *search.rivals]
    varied = [
        one.name
        for one in fields(Settings)
        if len({getattr(each.settings, one.name) for each in every if each.settings}) > 1
    ]
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    unit = f"{unit_of(probe.run for each in every for probe in each.probes)}/s"
    for name in ("with", unit, "less than", "", "confirmed"):
        table.add_column(name, justify="left" if name in {"with", ""} else "right")
    most = search.rate_per_s or 0.0
    marks: set[str] = set()
    for each in sorted(every, key=lambda one: -(one.rate_per_s or 0.0)):
        own = each.settings or Settings()
        text = ", ".join(setting_text(name, getattr(own, name)) for name in varied)
        kept = each.confirmation
        seen = "-" if kept is None else ", ".join(map(value_text, kept.judgements))
        rate = _rate(each)
        marks.add(rate[:1])
        above = "" if each.next_rate_per_s is None else rate_text(each.next_rate_per_s)
        above = above if each.rate_per_s is not None else ""
        share = (each.rate_per_s or 0.0) / most if most else 0.0
        style = "bold" if each is search else None
        table.add_row(text, rate, above, bar(share, BAR_CELLS), seen, style=style)
    told = [words for mark, words in _MARKS.items() if mark in marks]
    table.caption = "\n".join(told) or None
    failed = [one for one in every if one.status == "failed"]
    whys = [Text(f"{one.settings}: {one.reason}") for one in failed]
    return Group(table, Text(), *whys) if whys else table


def _rate(each: MaxRate) -> str:
    """The highest rate that keeps the limits, or what it lies below."""
    if each.status == "failed":
        return "failed"
    if each.rate_per_s is not None:
        return rate_text(each.rate_per_s)
    if each.next_verdict == "open" and each.next_rate_per_s is not None:
        return f"? {rate_text(each.next_rate_per_s)}"
    below = each.next_rate_per_s if each.probes else each.closed_loop_per_s
    return "-" if below is None else f"< {rate_text(below)}"
