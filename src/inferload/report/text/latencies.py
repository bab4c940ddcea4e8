"""What a report says of latencies: quantiles with their intervals, and their shape."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table
from rich.text import Text

from inferload.records.distribution import QUOTED_QUANTILES, Estimate
from inferload.report.text.parts import bar, figure_name
from inferload.units import edges_text

if TYPE_CHECKING:
    from inferload.log.arrays import Floats
    from inferload.records.distribution import Distribution
    from inferload.records.result import RunResult

#: Why no quantile is quoted, by ``Distribution.not_quoted``.
NOT_QUOTED = {
    "overloaded": "not quoted: the queue grew through the run, so that latencies say how long it "
    "lasted",
}
BINS = 10
BAR_WIDTH = 36


def percentiles_table(result: RunResult) -> Table:
    """A line for each duration: its mean, its ends and its quantiles."""
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    table.add_column("", style="bold", no_wrap=True)
    columns = ["mean", "min", *QUOTED_QUANTILES, "max"]
    for name in columns:
        table.add_column(figure_name(name), justify="right", no_wrap=True)
    summary = result.summary
    rows = {"latency": summary.response_ms}
    if result.spec.queued:
        rows |= {"service": summary.service_ms, "queue": summary.queue_ms}
        rows |= {"lateness": summary.lateness_ms}
    mean_ms = summary.response_ms.mean if summary.response_ms is not None else 0.0
    unit, per_ms = ("us", 1e3) if mean_ms < 1 else ("ms", 1.0) if mean_ms < 1e4 else ("s", 1e-3)
    for label, distribution in rows.items():
        if distribution is not None:
            values = [_value(distribution, name) for name in columns]
            if distribution.not_quoted is not None:  # nor is the mean, of which the same is true
                values[0] = None
            table.add_row(f"{label} {unit}", *(_cell(value, per_ms) for value in values))
        if label == "latency" and distribution is not None:
            for bound, shown in (("low", "  from"), ("high", "  to")):
                estimates = [getattr(distribution, name) for name in columns]
                cells = [_cell(getattr(one, bound, None), per_ms, "") for one in estimates]
                if any(cells):
                    table.add_row(shown, *cells, style="dim")
    return table


def _value(distribution: Distribution, name: str) -> float | None:
    found = getattr(distribution, name)
    return found.value if isinstance(found, Estimate) else found


def _cell(milliseconds: float | None, per_ms: float, nothing: str = "-") -> str:
    if milliseconds is None:
        return nothing
    value = milliseconds * per_ms
    if value == 0:
        return "0"
    if value < 0.001:
        return "<.001"
    # four significant digits, but no more than three decimals
    return f"{value:.{min(max(3 - math.floor(math.log10(abs(value))), 0), 3)}f}"


def notes_on(result: RunResult) -> list[str]:
    """What the table needs to be read: bounds, missing quantiles, counted values."""
    distribution = result.summary.response_ms
    notes: list[str] = []
    if distribution is None:
        return notes
    if any(getattr(distribution, name) is not None for name in QUOTED_QUANTILES):
        notes.append("from, to: 95 % interval by batch means")
    if distribution.more_calls:
        wanted = ", ".join(
            f"{figure_name(name)} {more:,}" for name, more in distribution.more_calls.items()
        )
        notes.append(f"-  not quoted; more calls needed: {wanted}")
    if distribution.not_quoted is not None:
        reason = NOT_QUOTED[distribution.not_quoted]
        if result.load_stages:
            reason = reason.replace("through the run", "in a stage")
        notes.append(f"-  {reason}")
        return notes
    lost = [
        figure_name(name)
        for name in QUOTED_QUANTILES
        if getattr(distribution, name) is None and name not in distribution.more_calls
    ]
    if lost:
        notes.append(
            f"-  among the {distribution.unfinished:,} unfinished calls: {', '.join(lost)}; mean, "
            "max and bars are of the others"
        )
    if distribution.counted:
        notes.append(
            f"quantiles are from counts of all calls (error <= 0.1 %); the log has a sample of "
            f"{len(result.log):,}"
        )
    return notes


def histogram_grid(distribution: Distribution) -> Table:
    """Counts of latencies in bins of equal ratio, on bars of equal scale."""
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    edges = edges_of(distribution.min, distribution.max)
    counts = (
        distribution.sample.histogram(edges) if distribution.sample else np.zeros(len(edges) - 1)
    )
    for (low, high), count in zip(pairwise(edges_text(edges.tolist())), counts, strict=True):
        share = count / max(counts.sum(), 1)
        table.add_row(
            f"{low} - {high}",
            Text(bar(count / max(counts.max(), 1), BAR_WIDTH), style="cyan"),
            f"{share:.2%}" if count else "0",
        )
    return table


def edges_of(low: float, high: float, bins: int = BINS) -> Floats:
    """The edges of bins of equal ratio, at most ``bins``, from the least value to the largest."""
    if low <= 0 or high / low < 1.001:
        middle = (low + high) / 2 or 1e-6
        return np.array([middle * 0.999, middle * 1.001 + (high - low)])
    edges = np.geomspace(low, high, bins + 1)
    edges[0], edges[-1] = low, high
    return edges
