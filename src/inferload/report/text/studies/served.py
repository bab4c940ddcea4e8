"""What a server costs over the model here: a table, and a sentence."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from inferload.report.text.parts import change_text, figure_name
from inferload.units import milliseconds_text, rate_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from inferload.studies.records.comparison import Comparison, Difference

COSTS = ("p50", "p99")


def server_cost(found: Comparison) -> list[RenderableType]:
    """Nothing unless one side alone is behind a server."""
    if found.served is None or not found.differences:
        return []
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    for name in ("", "here", "server", "it adds", "from", "to"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    said = []
    known = {one.figure: one for one in found.differences}
    for figure in COSTS:
        one = known.get(figure)
        if one is None:
            table.add_row(figure_name(figure), *5 * ["-"])
            continue
        here, there, low, high = _added(found, one)
        ends = ["-" if end is None else _signed(end) for end in (low, high)]
        table.add_row(
            figure_name(figure),
            milliseconds_text(here),
            milliseconds_text(there),
            _signed(there - here),
            *ends,
        )
        added = milliseconds_text(abs(there - here))
        if low is None or high is None:
            continue
        if one.verdict == "no difference found":
            added = "nothing that can be told from chance"
        elif there < here:
            added = f"-{added}"
        said.append(f"{added} at {figure_name(figure)}")
    peak = _peak(found)
    if peak is not None:
        here, there, ratios = peak
        table.add_row(
            "highest rate",
            f"{rate_text(here)}/s",
            f"{rate_text(there)}/s",
            change_text(there / here),
            *(change_text(one) for one in (min(ratios), max(ratios))),
        )
    missing = [figure_name(one) for one in COSTS if one not in known]
    notes = [
        Text(f"{name} is not quoted of so few calls: longer runs (--duration)", style="dim")
        for name in missing
    ]
    return [Text(), table, *_sentence(found, said, peak), *notes]


def _added(found: Comparison, one: Difference) -> tuple[float, float, float | None, float | None]:
    """The figure here and behind the server, and the interval of what that adds."""
    if found.served == "b":
        ends = None if one.low is None or one.high is None else (one.low, one.high)
        here, there = one.a, one.b
    else:
        ends = None if one.low is None or one.high is None else (1 / one.high, 1 / one.low)
        here, there = one.b, one.a
    if ends is None:
        return here, there, None, None
    return here, there, here * (ends[0] - 1), here * (ends[1] - 1)


def _peak(found: Comparison) -> tuple[float, float, list[float]] | None:
    """The highest rates, here and behind the server, and their ratio in each pair."""
    server = str(found.served)
    own, other = found.peaks_per_s(server), found.peaks_per_s("a" if server == "b" else "b")
    if not own or not other or not min(other):
        return None
    ratios = [mine / theirs for mine, theirs in zip(own, other, strict=False)]
    return median(other), median(own), ratios


def _signed(milliseconds: float) -> str:
    sign = "-" if milliseconds < 0 else "+"
    return f"{sign}{milliseconds_text(abs(milliseconds))}"


def _sentence(
    found: Comparison, said: list[str], peak: tuple[float, float, list[float]] | None
) -> list[Text]:
    spec = next((one.spec for one in found.runs if one.spec is not None), None)
    rate = None if spec is None else spec.rate_per_s
    lines = []
    if said:
        at = f"At {rate_text(rate)}/s the" if rate is not None else "The"
        lines.append(f"{at} server adds {' and '.join(said)} to what the model takes here")
    if peak is not None:
        whose = "its" if lines else "The server's"
        lines.append(f"{whose} highest rate is {peak[1] / peak[0]:.2f}x of the model's")
    if not lines:
        return []
    notes = [Text(f"{'; '.join(lines)}.", style="bold")]
    if peak is not None:
        notes.append(
            Text(
                "highest rate: closed loop of as many callers, medians; from and to are the "
                f"smallest and largest of {len(peak[2])} pairs",
                style="dim",
            )
        )
    return notes
