"""The charts of latencies: by percentile, and how many calls took how long."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from inferload.records.distribution import QUOTED_QUANTILES
from inferload.report.charts.chart import Chart, series
from inferload.report.charts.drawing import COLOURS, line, log_axis
from inferload.report.charts.series import percentile_curve
from inferload.report.text.latencies import NOT_QUOTED, edges_of
from inferload.report.text.parts import figure_name
from inferload.units import count_text, edges_text, milliseconds_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.log.arrays import Floats
    from inferload.records.distribution import Distribution, Estimate
    from inferload.records.result import RunResult

HISTOGRAM_BINS = 60
_DASHES = ("solid", "dash", "dot", "dashdot")
# 1 / (1 - q) of the quantiles that an axis names.
_TICKS = {2: "p50", 10: "p90", 100: "p99", 1000: "p99.9", 10**4: "p99.99", 10**5: "p99.999",
          10**6: "p99.9999", 10**7: "p99.99999"}  # fmt: skip


def percentiles_chart(result: RunResult) -> Chart | None:
    """Response, service and queue by quantile."""
    summary = result.summary
    if summary.response_ms is None:
        return None
    own = {"response": summary.response_ms}
    if result.spec.queued:
        own |= {
            name: one
            for name, one in (("service", summary.service_ms), ("queue", summary.queue_ms))
            if one is not None
        }
    own = {name: one for name, one in own.items() if one.not_quoted is None}
    return curves_chart("percentiles", "Latency by percentile", own, _says(summary.response_ms))


def curves_chart(name: str, title: str, distributions: dict[str, Distribution], says: str) -> Chart:
    """A curve for each distribution, and the intervals of the quantiles that are quoted."""
    data: list[dict[str, Any]] = []
    columns: dict[str, Sequence[Any]] = {"percentile": [*map(figure_name, QUOTED_QUANTILES), "max"]}
    farthest = 2.0
    for number, (label, one) in enumerate(distributions.items()):
        colour, dash = COLOURS[number % len(COLOURS)], _DASHES[number % len(_DASHES)]
        tails, values = percentile_curve(one)
        if not len(tails):
            continue
        farthest = max(farthest, float(tails[-1]))
        shown = np.where(values > 0, values, np.nan)
        data.append(
            line(label, tails, shown, colour, line={"dash": dash, "shape": "vh"},
                 text=_marks(one, tails), hovertemplate="%{text}%{y:.4g} ms")
        )  # fmt: skip
        data += _intervals(label, one, colour)
        columns[f"{label} ms"] = [*(_quoted(one, name) for name in QUOTED_QUANTILES), one.max]
    ticks = {place: text for place, text in _TICKS.items() if place <= farthest * 1.2}
    layout = {
        "xaxis": {
            "type": "log", "title": {"text": "percentile"}, "tickvals": list(ticks),
            "ticktext": list(ticks.values()), "hoverformat": ".4g",
        },
        "yaxis": log_axis("latency, ms"),
    }  # fmt: skip
    how = (
        "A curve of steps: at q stands the value of rank ceil(q n) of all n calls, without "
        "interpolation. Calls that never finished rank above all others, and the curve ends "
        "before them, else at the largest. Bars are 95 % intervals by batch means, of quantiles "
        "that have enough calls to be quoted; ~ where you point: beyond these, of too few calls."
    )
    return Chart(
        name=name, title=title, says=says, how=how, data=data, layout=layout, columns=columns,
        height=380,
    )  # fmt: skip


def _quoted(one: Distribution, name: str) -> float | None:
    estimate: Estimate | None = getattr(one, name)
    return None if estimate is None else estimate.value


def _marks(one: Distribution, tails: Floats) -> list[str]:
    """A mark for each point of a curve that lies beyond the quantiles that are quoted."""
    quoted = [q for name, q in QUOTED_QUANTILES.items() if _quoted(one, name) is not None]
    farthest = 1 / (1 - max(quoted)) if quoted else 0.0
    return ["" if tail <= farthest * (1 + 1e-9) else "~" for tail in tails.tolist()]


def _intervals(label: str, one: Distribution, colour: str) -> list[dict[str, Any]]:
    quoted = {
        1 / (1 - q): getattr(one, name)
        for name, q in QUOTED_QUANTILES.items()
        if getattr(one, name) is not None and getattr(one, name).value > 0
    }
    if not quoted:
        return []
    estimates = list(quoted.values())
    return [
        {
            "type": "scatter", "mode": "markers", "name": f"{label}, quoted", "showlegend": False,
            "hoverinfo": "skip", "x": series(list(quoted)),
            "y": series([each.value for each in estimates]),
            "marker": {"color": colour, "size": 6},
            "error_y": {
                "type": "data", "symmetric": False, "color": colour, "thickness": 1.5,
                "array": series([(each.high or each.value) - each.value for each in estimates]),
                "arrayminus": series([each.value - (each.low or each.value) for each in estimates]),
            },
        }
    ]  # fmt: skip


def _says(one: Distribution) -> str:
    if one.not_quoted is not None:
        return f"Response time: {NOT_QUOTED[one.not_quoted]}."
    quoted = [
        f"{figure_name(name)} {milliseconds_text(getattr(one, name).value)}"
        for name in QUOTED_QUANTILES
        if getattr(one, name) is not None
    ]
    return f"Response time: {', '.join([*quoted, f'max {milliseconds_text(one.max)}'])}."


def histogram_chart(result: RunResult) -> Chart | None:
    """How many calls took how long."""
    one = result.summary.response_ms
    if one is None or one.sample is None:
        return None
    edges = edges_of(one.min, one.max, HISTOGRAM_BINS)
    counts = one.sample.histogram(edges)
    share = counts / max(int(counts.sum()), 1)
    texts = [f"{low} to {high}" for low, high in pairwise(edges_text(edges.tolist()))]
    most = int(counts.argmax())
    return Chart(
        name="histogram", title="How many calls took how long",
        says=f"Most calls, {share[most]:.1%}, took {texts[most]}; the range is "
        f"{' to '.join(edges_text([one.min, one.max]))}.",
        how=f"{count_text(one.count - one.unfinished, 'response time')} in "
        f"{count_text(len(counts), 'bin')} of equal ratio.",
        data=[
            {
                "type": "scatter", "mode": "lines", "name": "calls", "fill": "tozeroy",
                "line": {"shape": "hv", "color": COLOURS[0], "width": 1.5},
                "x": series(edges, 6), "y": [*series(100 * share), 0.0], "text": [*texts, ""],
                "hovertemplate": "%{text}: %{y:.3g} %<extra></extra>",
            }
        ],
        layout={
            "xaxis": {**log_axis("response time, ms"), "showspikes": False},
            "yaxis": {"title": {"text": "% of calls"}, "rangemode": "tozero"},
            "hovermode": "closest", "showlegend": False,
        },
        columns={"from ms": edges[:-1].tolist(), "to ms": edges[1:].tolist(),
                 "calls": counts.tolist()},
        height=280,
    )  # fmt: skip
