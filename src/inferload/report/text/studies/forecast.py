"""What a forecast says: rates by replicas, how many are needed, and how well it was told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from inferload.report.text.parts import (
    change_text,
    quoted_text,
    study_header,
    study_warnings,
)
from inferload.studies.records.settings import delay_text
from inferload.units import count_text, duration_text, milliseconds_text, rate_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from inferload.records.distribution import Estimate
    from inferload.studies.records.forecast import Forecast, ForecastPoint, Needed

_ANSWERS = {True: "kept", False: "not kept", None: "-"}


def forecast_report(forecast: Forecast) -> RenderableType:
    """The answers, a line for each point, and what they rest on."""
    parts: list[RenderableType] = [_header(forecast), Text()]
    parts += [Text(needed_text(forecast, one), style="bold") for one in forecast.needed]
    if forecast.needed:
        parts.append(Text())
    parts += [_points_table(forecast), Text()]
    if any(one.checked is not None for one in forecast.points):
        parts += [_checked_table(forecast), Text()]
    parts.append(Text(_rests_on(forecast), style="dim"))
    parts += [Text(f"{one[0].upper()}{one[1:]}.", style="dim") for one in forecast.notes]
    return Group(*parts, *study_warnings(forecast.warnings))


def needed_text(forecast: Forecast, one: Needed) -> str:
    """How many replicas a rate needs."""
    limits = " and ".join(map(str, forecast.limits))
    of = f"{rate_text(one.rate_per_s)}/s at {limits}"
    lost = f", {one.lost} of them lost" if one.lost else ""
    if one.replicas is None:
        return f"{of}: no number of replicas; {one.reason}"
    return f"{of}: {count_text(one.replicas, 'replica')}{lost}"


def _header(forecast: Forecast) -> Table:
    calls = sum(one.calls for one in forecast.service)
    levels = sorted({one.in_flight for one in forecast.service})
    at_once = ", ".join(map(str, levels))
    batch = ""
    if forecast.max_batch is not None:
        batch = f", batches of up to {forecast.max_batch}, delay {delay_text(forecast.max_delay_s)}"
    kind = forecast.arrivals
    if kind == "gamma":
        kind += f" (burstiness {forecast.burstiness:g})"
    names = ", ".join(one.rpartition("/")[2] for one in forecast.sources)
    return study_header(
        {
            "target": forecast.target,
            "runs": f"a forecast from {names}: {calls:,} calls, {at_once} at once",
            "replica": f"{count_text(forecast.callers, 'caller')}{batch}; "
            f"{rate_text(forecast.capacity_per_s)} requests/s at most",
            "requests": f"{kind}, to replicas by {forecast.balancing} balancing",
        },
        forecast.environment,
    )


def _points_table(forecast: Forecast) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    batches = any(one.mean_batch is not None for one in forecast.points)
    names = ["due/s", "replicas", "load", "p50", "p99", "from", "to", "p99.9"]
    names += ["batch"] * batches + [one.written for one in forecast.limits]
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for one in forecast.points:
        cells = [rate_text(one.rate_per_s), f"{one.replicas:,}", f"{one.load_fraction:.0%}"]
        cells += _latencies(one)
        if batches:
            cells.append("-" if one.mean_batch is None else f"{one.mean_batch:.3g}")
        cells += [_ANSWERS[kept] for kept in one.limits]
        bold = bool(forecast.needed) and one.keeps_all
        table.add_row(*cells, style="bold" if bold else None)
    over = any(one.overloaded for one in forecast.points)
    unknown = any(not one.overloaded and one.p999_ms is None for one in forecast.points)
    open_end = any(one.p99_ms is not None and one.p99_ms.high is None for one in forecast.points)
    notes = [
        "over  more comes than can be made: the queue grows without end" * over,
        "-  too few calls were measured, or requests simulated, to say" * unknown,
        "?  if calls are as slow as they may be, more comes than can be made" * open_end,
    ]
    table.caption = "\n".join(one for one in notes if one) or None
    return table


def _latencies(one: ForecastPoint) -> list[str]:
    if one.overloaded:
        return ["over", "over", "", "", "over"]
    p99 = one.p99_ms
    return [
        quoted_text(one.p50_ms),
        quoted_text(p99),
        "-" if p99 is None else _end(p99.low),
        "-" if p99 is None else _end(p99.high),
        quoted_text(one.p999_ms),
    ]


def _end(value: float | None) -> str:
    return "?" if value is None else milliseconds_text(value)


def _checked_table(forecast: Forecast) -> Table:
    """Forecast against measured, with what the same minutes' service makes of it."""
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    for name in ("due/s", "calls", "", "measured", "forecast", "off", "beside", "off"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in forecast.points:
        if (found := one.checked) is None:
            continue
        rows = (
            ("p50", found.p50_ms, one.p50_ms, found.again_p50_ms),
            ("p99", found.p99_ms, one.p99_ms, found.again_p99_ms),
        )
        for place, (name, measured, told, again_ms) in enumerate(rows):
            table.add_row(
                "" if place else rate_text(one.rate_per_s),
                "" if place else f"{found.calls:,}",
                name,
                quoted_text(measured),
                quoted_text(told),
                _off(None if told is None else told.value, measured),
                milliseconds_text(again_ms),
                _off(again_ms, measured),
            )
    changed = change_text(1 + (forecast.service_change or 0.0))
    table.caption = (
        "beside  forecast of the same requests from what calls took in the same minutes, "
        f"{changed} against the result"
    )
    return table


def _off(forecast_ms: float | None, measured: Estimate | None) -> str:
    if forecast_ms is None or measured is None:
        return "-"
    return change_text(forecast_ms / measured.value)


def _rests_on(forecast: Forecast) -> str:
    most = max(one.simulated for one in forecast.points)
    return (
        f"Up to {most:,} requests were simulated at a point, in "
        f"{duration_text(forecast.took_s)} for all. From and to: where calls take what the ends of "
        "their intervals say. A replica is taken to be the machine that was measured, and nothing "
        "is added for the network or the balancer."
    )
