"""What all charts are drawn with: colours, axes and lines of Plotly's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inferload.report.charts.chart import Chart, series

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def changes_chart(
    changes: Sequence[tuple[str, float, float | None, float | None]],
    *,
    name: str,
    title: str,
    says: str,
    how: str,
    axis: str,
    colours: Sequence[str],
    column: str,
) -> Chart:
    """Ratios with their intervals as changes, a line for each: its name, value and ends."""
    names = [one[0] for one in changes]
    change = [100 * (value - 1) for _, value, _, _ in changes]
    lows = [100 * ((low or 0) - 1) for _, _, low, _ in changes]
    highs = [100 * ((high or 0) - 1) for _, _, _, high in changes]
    return Chart(
        name=name, title=title, says=says, how=how,
        data=[
            {
                "type": "scatter", "mode": "markers", "x": series(change), "y": names,
                "marker": {"size": 10, "color": list(colours)},
                "error_x": {
                    "type": "data", "symmetric": False, "color": "var(--text)",
                    "array": series([b - a for a, b in zip(change, highs, strict=True)]),
                    "arrayminus": series([a - b for a, b in zip(change, lows, strict=True)]),
                },
                "hovertemplate": "%{y}: %{x:+.3g} %<extra></extra>",
            }
        ],
        layout={
            "xaxis": {"title": {"text": axis}, "zeroline": True, "zerolinecolor": "var(--text)"},
            "yaxis": {"type": "category", "autorange": "reversed", "automargin": True},
            "hovermode": "closest", "showlegend": False,
        },
        columns={column: names, "change %": change, "from %": lows, "to %": highs},
        height=90 + 34 * len(names),
    )  # fmt: skip
