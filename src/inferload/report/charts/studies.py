"""The charts of sweeps, searches, comparisons and tunings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inferload.report.charts.chart import Chart, series
from inferload.report.charts.drawing import COLOURS, line, log_axis
from inferload.studies.records.settings import Settings, unit_of
from inferload.studies.search import VERDICTS
from inferload.units import count_text, rate_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.records.distribution import Estimate
    from inferload.studies.records.max_rate import MaxRate
    from inferload.studies.records.settings import StudyRun
    from inferload.studies.records.sweep import Sweep, SweepPoint

_MARKS = {"kept": "circle", "broken": "x", "open": "circle-open", "unstable": "triangle-up"}


def sweep_charts(sweep: Sweep) -> list[Chart]:
    """Latency against throughput, and throughput by what was varied."""
    points = [one for one in sweep.points if one.throughput_items_per_s is not None]
    if not points:
        return []
    varied = [name for name, values in sweep.axes.items() if len(values) > 1]
    unit = "items/s" if "batch_size" in varied else f"{unit_of(sweep.runs)}/s"
    return [_throughput_latency(points, varied, unit), _throughput_by(sweep, points, varied, unit)]


def _own(point: SweepPoint, varied: Sequence[str]) -> str:
    return str(Settings(**{name: getattr(point.settings, name) for name in varied})) or "the run"


def _throughput(point: SweepPoint, *, items: bool) -> Estimate | None:
    return point.throughput_items_per_s if items else point.throughput_calls_per_s


def _throughput_latency(points: Sequence[SweepPoint], varied: Sequence[str], unit: str) -> Chart:
    items = unit == "items/s"
    groups: dict[str, list[SweepPoint]] = {}
    for one in points:
        groups.setdefault(_own(one, varied[:-1]) if len(varied) > 1 else "", []).append(one)
    data = []
    for number, (group, own) in enumerate(groups.items()):
        for quantile, dash in (("p50", "solid"), ("p99", "dot")):
            estimates = [getattr(one, f"{quantile}_ms") for one in own]
            if all(one is None for one in estimates):
                continue
            colour = COLOURS[(number if group else dash == "dot") % len(COLOURS)]
            data.append(
                line(f"{quantile}, {group}" if group else quantile,
                     [_value(_throughput(one, items=items)) for one in own],
                     [_value(one) for one in estimates], colour, mode="lines+markers",
                     text=[_own(one, varied) for one in own], line={"width": 1, "dash": dash},
                     marker={"size": 8}, error_y=_bars(estimates, colour),
                     hovertemplate="%{text}: %{x:.5g}/s, %{y:.4g} ms")
            )  # fmt: skip
    rates = [_value(_throughput(one, items=items)) for one in points]
    most = points[rates.index(max(rates))]
    return Chart(
        name="throughput-latency", title="Latency against throughput",
        says=f"{count_text(len(points), 'point')}; the most throughput, "
        f"{rate_text(max(rates))} {unit}, is with {_own(most, varied)}.",
        how="A point is the median of its runs, with the range of their 95 % intervals; points "
        "that differ in one setting are joined in its order. Quantiles that no run had the calls "
        "for are left out.",
        data=data,
        layout={
            "xaxis": {"title": {"text": f"throughput, {unit}"}, "rangemode": "tozero"},
            "yaxis": log_axis("response time, ms"), "hovermode": "closest",
        },
        columns={
            "settings": [_own(one, varied) for one in points], unit: rates,
            "p50 ms": [_value(one.p50_ms) for one in points],
            "p99 ms": [_value(one.p99_ms) for one in points],
        },
        height=380,
    )  # fmt: skip


def _throughput_by(
    sweep: Sweep, points: Sequence[SweepPoint], varied: Sequence[str], unit: str
) -> Chart:
    items = unit == "items/s"
    by = varied[-1] if varied else "callers"
    others = varied[:-1]
    groups: dict[str, list[SweepPoint]] = {}
    for one in points:
        groups.setdefault(_own(one, others) if others else "throughput", []).append(one)
    in_words = any(isinstance(getattr(one.settings, by), str) for one in points)
    data = []
    for number, (name, own) in enumerate(groups.items()):
        estimates = [_throughput(one, items=items) for one in own]
        colour = COLOURS[number % len(COLOURS)]
        places = [getattr(one.settings, by) for one in own]
        trace: dict[str, Any] = {
            "name": name, "x": [str(one) for one in places] if in_words else places,
            "y": series([_value(one) for one in estimates]),
            "error_y": _bars(estimates, colour if not in_words else "var(--text)"),
            "hovertemplate": "%{y:.5g} " + unit,
        }  # fmt: skip
        if in_words:
            data.append({"type": "bar", "marker": {"color": colour}} | trace)
        else:
            data.append(
                {"type": "scatter", "mode": "lines+markers", "line": {"color": colour}} | trace
            )
    if by == "callers" and not others and not items:
        data += _law(sweep, points)
    word = {"form": "Forms side by side"}.get(by, f"Throughput by {by.replace('_', ' ')}")
    rates = [_value(_throughput(one, items=items)) for one in points]
    told = [
        f"{_own(one, varied)}: {rate_text(rate)}" for one, rate in zip(points, rates, strict=True)
    ]
    return Chart(
        name="throughput-by", title=word,
        says=f"In {unit}: {'; '.join(told[:12])}{'; ...' * (len(points) > 12)}.",
        how="The median of a point's runs, with the range of their 95 % intervals.",
        data=data,
        layout={
            "xaxis": {"title": {"text": by.replace("_", " ")}}
            | ({"type": "category"} if in_words else {}),
            "yaxis": {"title": {"text": unit}, "rangemode": "tozero"},
            "showlegend": len(data) > 1,
        },
        columns={"settings": [_own(one, varied) for one in points], unit: rates},
    )  # fmt: skip


def _law(sweep: Sweep, points: Sequence[SweepPoint]) -> list[dict[str, Any]]:
    """The fitted law, which is of calls by the callers of all processes, by those of one."""
    fit = sweep.usl
    if fit is None:
        return []
    processes = max((one.spec.processes for one in sweep.runs if one.spec is not None), default=1)
    most = max(one.settings.callers or 1 for one in points)
    callers = [1 + step * (most - 1) / 60 for step in range(61)]
    rate, s, k = (one.value for one in (fit.rate_of_one_per_s, fit.contention, fit.coherency))
    all_of_them = [processes * one for one in callers]
    law = [rate * n / (1 + s * (n - 1) + k * n * (n - 1)) for n in all_of_them]
    return [
        line("Universal Scalability Law", callers, law, COLOURS[7], line={"dash": "dash"},
             hovertemplate="%{y:.5g} calls/s")
    ]  # fmt: skip


def search_charts(search: MaxRate) -> list[Chart]:
    """What each probe found of each limit, by its rate."""
    charts = []
    for number, limit in enumerate(search.limits):
        if limit.figure == "throughput":
            continue
        rows = [
            (probe.rate_per_s, one.value, probe.verdict)
            for probe in sorted(search.probes, key=lambda one: one.rate_per_s)
            for one in probe.judgements
            if one.limit == limit and one.value is not None
        ]
        if not rows:
            continue
        rates, values, verdicts = zip(*rows, strict=True)
        data: list[dict[str, Any]] = [
            {
                "type": "scatter", "mode": "markers", "name": VERDICTS[verdict],
                "x": series([r for r, _, v in rows if v == verdict]),
                "y": series([value for _, value, v in rows if v == verdict]),
                "marker": {"size": 10, "color": COLOURS[place], "symbol": _MARKS[verdict]},
                "hovertemplate": "%{x:.5g}/s: %{y:.4g}",
            }
            for place, verdict in enumerate(_MARKS)
            if verdict in verdicts
        ]  # fmt: skip
        ends = [min(rates), max(rates)]
        data.append(
            line(str(limit), ends, [limit.bound] * 2, "var(--dim)", line={"dash": "dash"},
                 hoverinfo="skip")
        )  # fmt: skip
        in_ms = limit.quantile is not None
        charts.append(
            Chart(
                name=f"limit-{number}", title=f"{limit.name} of each probe",
                says=f"{count_text(len(rows), 'probe')} from {rate_text(ends[0])}/s to "
                f"{rate_text(ends[1])}/s; the limit is {limit.text_of(limit.bound)}.",
                how="A probe is a run at one rate, as long as it takes to say whether the limit is "
                "kept; of few calls its figure is not exact.",
                data=data,
                layout={
                    "xaxis": {"title": {"text": "calls due per second"}},
                    "yaxis": log_axis(f"{limit.name}, ms") if in_ms
                    else {"title": {"text": limit.name}},
                    "hovermode": "closest",
                },
                columns={"due/s": list(rates), limit.name: list(values),
                         "verdict": [VERDICTS[one] for one in verdicts]},
            )
        )  # fmt: skip
    return charts


def _value(estimate: Estimate | None) -> float:
    return float("nan") if estimate is None else estimate.value


def rate_of(run: StudyRun) -> float:
    """Items per second of a run; 0 if it has no figures."""
    return 0.0 if run.summary is None else run.summary.throughput_items_per_s.value


def _bars(estimates: Sequence[Estimate | None], colour: str) -> dict[str, Any]:
    """The intervals of estimates as Plotly's error bars."""

    def gaps(bound: str, sign: int) -> list[Any]:
        ends = [None if one is None else getattr(one, bound) for one in estimates]
        return series(
            [
                0.0 if one is None or end is None else sign * (end - one.value)
                for one, end in zip(estimates, ends, strict=True)
            ]
        )

    return {
        "type": "data", "symmetric": False, "color": colour, "thickness": 1.5,
        "array": gaps("high", 1), "arrayminus": gaps("low", -1),
    }  # fmt: skip
