"""The chart of answers in pieces: first piece, gap and whole answer by percentile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferload.report.charts.latency import curves_chart
from inferload.report.text.pieces import FIELD_NAMES, piece_durations
from inferload.units import milliseconds_text

if TYPE_CHECKING:
    from inferload.records.result import RunResult
    from inferload.report.charts.chart import Chart


def pieces_chart(result: RunResult) -> Chart | None:
    """A curve for each duration; ``None`` where no call answered in pieces."""
    own = {
        _named(label): one
        for label, one in piece_durations(result.summary).items()
        if one.not_quoted is None
    }
    if not own:
        return None
    middle = ", ".join(
        f"{name} {milliseconds_text(one.p50.value)}"
        for name, one in own.items()
        if one.p50 is not None
    )
    says = f"Medians: {middle}." if middle else "Too few calls for a median."
    return curves_chart("pieces", "First piece, gaps and whole answers by percentile", own, says)


def _named(label: str) -> str:
    return f"{label} ({FIELD_NAMES[label]})" if FIELD_NAMES[label] else label
