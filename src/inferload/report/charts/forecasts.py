"""The charts of forecasts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferload.report.charts.chart import Chart
from inferload.report.charts.drawing import COLOURS, line, log_axis
from inferload.units import count_text, milliseconds_text, rate_text

if TYPE_CHECKING:
    from inferload.records.distribution import Estimate
    from inferload.studies.records.forecast import Forecast, ForecastPoint


def forecast_charts(forecast: Forecast) -> list[Chart]:
    """p50 and p99 against the rate, a line for each number of replicas."""
    points = [one for one in forecast.points if one.p50_ms is not None]
    if not points:
        return []
    groups: dict[int, list[ForecastPoint]] = {}
    for one in sorted(points, key=lambda one: (one.replicas, one.rate_per_s)):
        groups.setdefault(one.replicas, []).append(one)
    data = []
    for number, (replicas, own) in enumerate(groups.items()):
        named = count_text(replicas, "replica")
        for name, dash in (("p50", "solid"), ("p99", "dot")):
            data.append(
                line(f"{name}, {named}", [one.rate_per_s for one in own],
                     [_value(getattr(one, f"{name}_ms")) for one in own],
                     COLOURS[number % len(COLOURS)], mode="lines+markers",
                     line={"width": 1.5, "dash": dash}, marker={"size": 6},
                     hovertemplate="%{x:.5g}/s: %{y:.4g} ms")
            )  # fmt: skip
    for limit in forecast.limits:
        ends = [min(one.rate_per_s for one in points), max(one.rate_per_s for one in points)]
        data.append(
            line(str(limit), ends, [limit.bound] * 2, "var(--dim)", line={"dash": "dash"},
                 hoverinfo="skip")
        )  # fmt: skip
    last = points[-1]
    p99 = "-" if last.p99_ms is None else milliseconds_text(last.p99_ms.value)
    return [
        Chart(
            name="forecast", title="Response time against the rate",
            says=f"{count_text(len(points), 'point')}; at {rate_text(last.rate_per_s)}/s through "
            f"{count_text(last.replicas, 'replica')} p99 is {p99}.",
            how="Simulated from what calls took; points at which more comes than can be made have "
            "no place.",
            data=data,
            layout={
                "xaxis": {"title": {"text": "requests due per second"}, "rangemode": "tozero"},
                "yaxis": log_axis("response time, ms"), "hovermode": "closest",
            },
            columns={
                "due/s": [one.rate_per_s for one in points],
                "replicas": [one.replicas for one in points],
                "p50 ms": [_value(one.p50_ms) for one in points],
                "p99 ms": [_value(one.p99_ms) for one in points],
            },
            height=380,
        )
    ]  # fmt: skip


def _value(estimate: Estimate | None) -> float:
    return float("nan") if estimate is None else estimate.value
