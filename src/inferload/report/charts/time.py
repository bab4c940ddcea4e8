"""The charts of a run along its time: latencies and throughput, and a strip for each caller."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from inferload.records.distribution import QUOTED_QUANTILES
from inferload.report.charts.chart import Chart, series
from inferload.report.charts.drawing import COLOURS, line, log_axis
from inferload.report.charts.series import strips, timeline
from inferload.stats.intervals import more_calls_to_quote
from inferload.units import (
    NS_PER_MS,
    NS_PER_S,
    count_text,
    duration_text,
    edges_text,
    milliseconds_text,
)

if TYPE_CHECKING:
    from inferload.records.result import RunResult
    from inferload.report.charts.series import Timeline

# Of so few stretches points are drawn too, and of so few calls every call.
FEW_STRETCHES = 20
EVERY_CALL = 2000


def over_time_chart(result: RunResult) -> Chart | None:
    """Quantiles and throughput along the run, with what is cut off."""
    found = timeline(result.log)
    if found is None:
        return None
    rates = (found.calls - found.failed) / found.width_s
    if result.log.tally is not None:
        rates[-1] = np.nan  # the last window may not be full
    p50, p99 = (_of_stretches(name, found) for name in ("p50", "p99"))
    data = [
        line("max", found.middles_s, found.max_ms, COLOURS[1], line={"dash": "dot", "width": 1}),
        line(p99, found.middles_s, found.p99_ms, COLOURS[1]),
        line(p50, found.middles_s, found.p50_ms, COLOURS[0]),
        line(f"{result.spec.unit}s/s", found.middles_s, rates, COLOURS[2], yaxis="y2"),
    ]
    if found.failed.any():
        failed = found.failed / found.width_s
        data.append(line("failed/s", found.middles_s, failed, COLOURS[6], yaxis="y2"))
    for one in data:
        one["hovertemplate"] = "%{y:.4g}"
        one["mode"] = "lines" if len(found.calls) >= FEW_STRETCHES else "lines+markers"
    if len(result.log) <= EVERY_CALL and result.log.tally is None:
        well = result.log.completed
        every = line("a call", result.log.finished_ns[well] / NS_PER_S,
                     result.log.response_ns[well] / NS_PER_MS, COLOURS[7], mode="markers",
                     marker={"size": 4, "opacity": 0.6}, hovertemplate="%{y:.4g}")  # fmt: skip
        data.insert(0, every)
    from_s, steady = result.summary.from_s, result.steady
    cut_s = from_s or (steady.cut_s if steady is not None and steady.steady else 0.0)
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": "time since the start line, s"}, "rangemode": "tozero",
                  "anchor": "y2"},
        "yaxis": {**log_axis("latency, ms"), "domain": [0.42, 1]},
        "yaxis2": {"title": {"text": "per s"}, "domain": [0, 0.32], "rangemode": "tozero"},
    }  # fmt: skip
    text = "nothing is cut off"
    if cut_s:
        label = "warm-up, cut off" if from_s else "would be cut as warm-up"
        text = f"the first {duration_text(cut_s)} are {label}"
        layout["shapes"] = [
            {"type": "rect", "xref": "x", "yref": "paper", "x0": 0, "x1": cut_s, "y0": 0, "y1": 1,
             "fillcolor": "var(--cut)", "line": {"width": 0}},
            {"type": "line", "xref": "x", "yref": "paper", "x0": cut_s, "x1": cut_s, "y0": 0,
             "y1": 1, "line": {"color": "var(--dim)", "width": 1, "dash": "dash"}},
        ]  # fmt: skip
        layout["annotations"] = [
            {"x": cut_s, "xref": "x", "y": 1, "yref": "paper", "text": label, "showarrow": False,
             "xanchor": "left", "yanchor": "top", "font": {"color": "var(--dim)", "size": 11}}
        ]  # fmt: skip
    medians = found.p50_ms[np.isfinite(found.p50_ms)]
    says = f"Latency and throughput in stretches of {duration_text(found.width_s)}; {text}."
    if len(medians):
        says += (
            f" The median of a stretch is {milliseconds_text(float(medians.min()))} to "
            f"{milliseconds_text(float(medians.max()))}."
        )
    return Chart(
        name="over-time", title="Over time", says=says,
        how="Calls belong to the stretch in which they finished; quantiles are of those calls "
        "alone, by rank; ~: a stretch has too few of them to quote it, and p99 may be the largest. "
        "The cut ones are shown too; of up to 2,000 calls each is a point.",
        data=data, layout=layout, height=460,
        columns={
            "time s": found.middles_s.tolist(), "calls": found.calls.tolist(),
            "failed": found.failed.tolist(),
            f"{p50} ms": found.p50_ms.tolist(), f"{p99} ms": found.p99_ms.tolist(),
            "max ms": found.max_ms.tolist(),
        },
    )  # fmt: skip


def _of_stretches(name: str, found: Timeline) -> str:
    """A quantile's name, marked where a stretch has too few calls to quote it."""
    calls = found.calls - found.failed
    fewest = int(calls[calls > 0].min()) if (calls > 0).any() else 0
    few = more_calls_to_quote(fewest, QUOTED_QUANTILES[name], 1.0) > 0
    return f"{'~' * few}{name}"


def callers_chart(result: RunResult) -> Chart | None:
    """A strip for each caller: its mean service time along the run."""
    found = strips(result.log, result.spec.callers)
    if found is None:
        return None
    known = found.mean_ms[np.isfinite(found.mean_ms) & (found.mean_ms > 0)]
    if not len(known):
        return None
    low, high = math.log10(known.min()), math.log10(known.max())
    ticks = np.linspace(low, high, 4) if high > low else np.array([low])
    with np.errstate(divide="ignore"):
        shown = np.log10(found.mean_ms)
    with np.errstate(invalid="ignore"):
        of_caller = np.nansum(found.mean_ms * found.calls, axis=1) / found.calls.sum(axis=1)
    texts = np.char.add(np.char.mod("%.4g ms, ", found.mean_ms), found.calls.astype("U12"))
    sample = "" if result.log.tally is None else f" Of a sample of {len(result.log):,} calls."
    used = np.isfinite(shown)
    rows, cells = np.nonzero(used)
    names, width_s = [f"caller {label}" for label in found.labels], float(2 * found.middles_s[0])
    return Chart(
        name="callers", title="Callers",
        says=f"Mean service time of {count_text(result.spec.callers, 'caller')} along the run; by "
        f"caller it is {milliseconds_text(float(np.nanmin(of_caller)))} to "
        f"{milliseconds_text(float(np.nanmax(of_caller)))}.",
        how="A strip is a caller"
        + (" or neighbours" if " " in found.labels[0] else "")
        + "; a cell is the mean of service times, from start to finish, of its calls that finished "
        "then and returned. Empty cells had none." + sample,
        data=[
            {
                "type": "bar", "orientation": "h", "y": [names[row] for row in rows],
                "base": series(cells * width_s),
                "x": series(np.full(len(cells), width_s)),
                "text": texts[used].tolist(), "textposition": "none",
                "hovertemplate": "%{y}, %{base:.3g} s: %{text} calls<extra></extra>",
                "marker": {
                    "color": series(shown[used], 4), "line": {"width": 0},
                    "colorscale": "Viridis", "cmin": low, "cmax": high, "showscale": True,
                    "colorbar": {
                        "tickvals": series(ticks), "thickness": 12,
                        "ticktext": edges_text((10**ticks).tolist()),
                    },
                },
            }
        ],
        layout={
            "xaxis": {"title": {"text": "time since the start line, s"}, "showgrid": False},
            "yaxis": {
                "autorange": "reversed", "showgrid": False, "type": "category",
                "categoryorder": "array", "categoryarray": names,
            },
            "hovermode": "closest", "barmode": "overlay", "bargap": 0,
        },
        columns={
            "caller": list(found.labels), "calls": found.calls.sum(axis=1).tolist(),
            "mean service ms": of_caller.tolist(),
        },
        height=int(np.clip(120 + 18 * len(found.labels), 180, 900)),
    )  # fmt: skip
