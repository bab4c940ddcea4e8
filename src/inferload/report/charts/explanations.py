"""Charts of explanations: what each change makes, and which operators take a call's time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferload.report.charts.chart import Chart, series
from inferload.report.charts.drawing import COLOURS, changes_chart
from inferload.report.text.parts import change_text

if TYPE_CHECKING:
    from inferload.studies.records.explanation import Explanation, Traced


def explanation_charts(found: Explanation) -> list[Chart]:
    """Each change with its interval, and the largest operators."""
    charts = []
    tried = [one for one in found.tried if one.ratio is not None]
    if tried:
        colours = [
            "var(--dim)" if not one.claimed else "var(--good)" if (one.ratio or 0) > 1
            else "var(--bad)"
            for one in tried
        ]  # fmt: skip
        charts.append(
            changes_chart(
                [(one.what, one.ratio or 1.0, one.low, one.high) for one in tried],
                name="changes",
                title="What if",
                says="; ".join(
                    f"{one.what} {change_text(one.ratio)}" if one.claimed else f"not {one.what}"
                    for one in tried
                )
                + ".",
                how="Items a second with one thing changed, over the run as asked, with 95 % "
                "intervals. Grey: no effect beyond noise, all changes held together.",
                axis="change of throughput, %",
                colours=colours,
                column="change",
            )
        )
    if found.traced is not None and found.traced.operators:
        charts.append(_operators(found.traced))
    return charts


def _operators(traced: Traced) -> Chart:
    rows = [(one.name, 100 * one.share) for one in traced.operators]
    rows.append(("outside of operators", 100 * traced.outside))
    names, shares = [name for name, _ in rows], [share for _, share in rows]
    return Chart(
        name="operators", title="Where the time of a call goes",
        says=f"{names[0]} takes {shares[0]:.0f} % of a call by itself; {shares[-1]:.0f} % is "
        "outside of operators.",
        how="The self time of operators on the host, from a traced run of the same load that is in "
        "no other figure.",
        data=[
            {
                "type": "bar", "orientation": "h", "x": series(shares), "y": names,
                "marker": {"color": COLOURS[0]},
                "hovertemplate": "%{y}: %{x:.3g} %<extra></extra>",
            }
        ],
        layout={
            "xaxis": {"title": {"text": "% of a call"}, "rangemode": "tozero"},
            "yaxis": {"type": "category", "autorange": "reversed", "automargin": True},
            "hovermode": "closest", "showlegend": False,
        },
        columns={"operator": names, "% of a call": shares},
        height=90 + 28 * len(rows),
    )  # fmt: skip
