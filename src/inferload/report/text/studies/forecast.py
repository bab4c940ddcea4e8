"""What a forecast says: rates by replicas, how many are needed, and how well it was told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from inferload.report.text.parts import (
    change_text,
    figure_name,
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

_QUOTED = ("p50_ms", "p99_ms", "p999_ms")
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
    if one.replicas is None:
        return f"{of}: no number of replicas; {one.reason}"
    lost = ""
    if one.lost:
        are = "is" if one.lost == 1 else "are"
        lost = f", of which {one.replicas - one.lost:,} serve and {one.lost:,} {are} lost"
    return f"{of}: {count_text(one.replicas, 'replica')}{lost}{_margins(forecast, one)}"


def _margins(forecast: Forecast, needed: Needed) -> str:
    """What so many come to, and what one less would."""
    texts = []
    for less in (0, 1):
        for point in forecast.points:
            number = (needed.replicas or 0) - less
            if (point.rate_per_s, point.replicas) == (needed.rate_per_s, number):
                of = f"{number:,}: " if less else ""
                texts.append(of + _figures(forecast, point))
    return f" ({'; '.join(texts)})" if texts else ""


def _figures(forecast: Forecast, point: ForecastPoint) -> str:
    if point.overloaded:
        return "too few to keep up"
    texts = []
    for name in dict.fromkeys(one.figure for one in forecast.limits):
        found: Estimate | None = getattr(point, f"{name}_ms", None)
        if found is not None:
            up_to = "" if found.high is None else f", up to {milliseconds_text(found.high)}"
            texts.append(f"{figure_name(name)} {milliseconds_text(found.value)}{up_to}")
    return ", ".join(texts) or "not known"


def _header(forecast: Forecast) -> Table:
    calls = sum(one.calls for one in forecast.service)
    levels = sorted({one.in_flight for one in forecast.service})
    at_once = ", ".join(map(str, levels))
    batch = ""
    if forecast.max_batch is not None:
        batch = f", batches of up to {forecast.max_batch}, delay {delay_text(forecast.max_delay_s)}"
    more = f" ({levels[-1]} were measured)" if forecast.extrapolated else ""
    kind = forecast.arrivals
    if kind == "gamma":
        kind += f" (burstiness {forecast.burstiness:g})"
    names = ", ".join(one.rpartition("/")[2] for one in forecast.sources)
    ended = "" if forecast.status == "complete" else f"; {forecast.status}"
    return study_header(
        {
            "target": forecast.target,
            "runs": f"a forecast from {names}: {calls:,} calls, {at_once} at once{ended}",
            "replica": f"{count_text(forecast.callers, 'caller')}{more}{batch}; "
            f"{rate_text(forecast.capacity_per_s)} requests/s at most",
            "requests": f"{kind}, to replicas by {forecast.balancing} balancing",
        },
        forecast.environment,
    )


def _points_table(forecast: Forecast) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    batches = any(one.mean_batch is not None for one in forecast.points)
    known = {name: any(_of(one, name) is not None for one in forecast.points) for name in _QUOTED}
    lost = forecast.lost > 0
    names = ["due/s", "replicas", *["serving"] * lost, "load", "p50"]
    names += ["p99", "p99 from", "p99 to"] * known["p99_ms"] + ["p99.9"] * known["p999_ms"]
    names += ["batch"] * batches + [one.written for one in forecast.limits]
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for one in forecast.points:
        cells = [rate_text(one.rate_per_s), f"{one.replicas:,}"]
        cells += [f"{one.replicas - forecast.lost:,}"] * lost + [_load_text(one.load_fraction)]
        cells += _latencies(one, known)
        if batches:
            cells.append("-" if one.mean_batch is None else f"{one.mean_batch:.3g}")
        cells += [_ANSWERS[kept] for kept in one.limits]
        bold = bool(forecast.needed) and one.keeps_all
        table.add_row(*cells, style="bold" if bold else None)
    over = any(one.overloaded and not one.may_keep_up for one in forecast.points)
    may = any(one.overloaded and one.may_keep_up for one in forecast.points)
    unknown = any(
        not one.overloaded and _of(one, name) is None
        for one in forecast.points
        for name in _QUOTED
        if known[name]
    )
    open_end = any(one.p99_ms is not None and one.p99_ms.high is None for one in forecast.points)
    notes = [
        "over  more comes than can be made: the queue grows without end" * over,
        "over?  the same, unless calls are as fast as they may be" * may,
        "-  too few requests were simulated to say (--requests)" * unknown,
        "?  if calls are as slow as they may be, more comes than can be made" * open_end,
    ]
    table.caption = "\n".join(one for one in notes if one) or None
    table.caption_justify = "left"
    return table


def _of(one: ForecastPoint, name: str) -> Estimate | None:
    found: Estimate | None = getattr(one, name)
    return found


def _load_text(share: float) -> str:
    return f"{share:.0%}" if share < 10 else "x" + rate_text(share)


def _latencies(one: ForecastPoint, known: dict[str, bool]) -> list[str]:
    over = "" if not one.overloaded else "over?" if one.may_keep_up else "over"
    found = [over or quoted_text(one.p50_ms)]
    p99 = one.p99_ms
    if known["p99_ms"]:
        found += [over or quoted_text(p99)]
        found += ["", ""] if p99 is None else [_end(p99.low), _end(p99.high)]
    if known["p999_ms"]:
        found += [over or quoted_text(one.p999_ms)]
    return found


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
                ("" if measured.low is not None else "~") + milliseconds_text(measured.value),
                quoted_text(told),
                _off(None if told is None else told.value, measured),
                milliseconds_text(again_ms),
                _off(again_ms, measured),
            )
    changed = change_text(1 + (forecast.service_change or 0.0))
    table.caption = (
        "beside  forecast of the same requests from what calls took in the same minutes, "
        f"{changed} against the result; ~ of too few calls to quote"
    )
    table.caption_justify = "left"
    return table


def _off(forecast_ms: float | None, measured: Estimate) -> str:
    return "-" if forecast_ms is None else change_text(forecast_ms / measured.value)


def _rests_on(forecast: Forecast) -> str:
    most = max(one.simulated for one in forecast.points)
    simulated = f"Up to {most:,} requests were simulated at a point, in "
    simulated += f"{duration_text(forecast.took_s)} for all. " if most else ""
    return (
        f"{simulated * bool(most)}From and to: where calls take what the ends of "
        "their intervals say. A replica is taken to be the machine that was measured, and nothing "
        "is added for the network or the balancer."
    )
