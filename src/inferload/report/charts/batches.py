"""The chart of batches: how many of them had how many requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferload.report.charts.chart import Chart, series
from inferload.report.charts.drawing import COLOURS
from inferload.units import count_text, rate_text

if TYPE_CHECKING:
    from inferload.records.result import RunResult


def sizes_chart(result: RunResult) -> Chart | None:
    """How many batches had how many requests; ``None`` where there were none."""
    found = result.summary.batches
    if found is None:
        return None
    sizes, counts = zip(*found.sizes, strict=True)
    most = max(found.sizes, key=lambda pair: pair[1])[0]
    sampled = " The log has a sample of the requests, and so these are." if found.sampled else ""
    return Chart(
        name="batches", title="Requests in a batch",
        says=f"Batches have {rate_text(found.mean_size)} requests in the mean, most often "
        f"{most:,}; the range is {sizes[0]:,} to {sizes[-1]:,}.",
        how=f"{count_text(found.batches, 'call')} of the model in the measured part, by the number "
        f"of requests whose inputs were put together for it.{sampled}",
        data=[
            {
                "type": "bar", "name": "batches", "x": series(sizes, 9), "y": series(counts, 9),
                "marker": {"color": COLOURS[0]},
                "hovertemplate": "%{x} requests: %{y} batches<extra></extra>",
            }
        ],
        layout={
            "xaxis": {"title": {"text": "requests in a batch"}, "showspikes": False},
            "yaxis": {"title": {"text": "batches"}, "rangemode": "tozero"},
            "hovermode": "closest", "showlegend": False, "bargap": 0.1,
        },
        columns={"requests": list(sizes), "batches": list(counts)},
        height=280,
    )  # fmt: skip
