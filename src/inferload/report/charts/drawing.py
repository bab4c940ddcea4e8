"""What all charts are drawn with: colours, axes and lines of Plotly's."""

from __future__ import annotations

from typing import Any

from inferload.report.charts.chart import series

COLOURS = tuple(f"var(--c{number})" for number in range(1, 9))


def log_axis(title: str) -> dict[str, Any]:
    """A logarithmic axis of durations or rates."""
    return {"title": {"text": title}, "type": "log", "exponentformat": "none"}


def line(name: str, x: Any, y: Any, colour: str, **more: Any) -> dict[str, Any]:
    """A line of Plotly's; ``more`` are its own settings."""
    own: dict[str, Any] = {"color": colour, "width": 2} | more.pop("line", {})
    return {
        "type": "scatter", "mode": "lines", "name": name, "x": series(x), "y": series(y),
        "line": own,
    } | more  # fmt: skip
