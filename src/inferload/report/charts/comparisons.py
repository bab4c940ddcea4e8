"""Charts of comparisons and tunings: two things side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferload.report.charts.chart import Chart, series
from inferload.report.charts.drawing import COLOURS, changes_chart
from inferload.report.charts.studies import rate_of
from inferload.report.text.parts import change_text, figure_name
from inferload.units import rate_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.studies.records.comparison import Comparison, Difference
    from inferload.studies.records.tuning import Tuning


def comparison_charts(found: Comparison) -> list[Chart]:
    """The interval of each figure, and the runs or slices in the order they were made."""
    charts = []
    known = [one for one in found.differences if one.low is not None and one.high is not None]
    if known:
        charts.append(_differences(known))
    rates = [
        (number, side, run.summary.throughput_items_per_s.value)
        for number, (side, run) in enumerate(zip(found.sides, found.runs, strict=True), start=1)
        if run.summary is not None
    ]
    if found.slices:
        charts.append(_made(found, _of_slices(found), "slice"))
    elif len(rates) > 2:
        charts.append(_made(found, rates, "run"))
    return charts


def _of_slices(found: Comparison) -> list[tuple[int, str, float]]:
    """The number of each slice, counting pairs of them, its side and its rate."""
    both = [one for pair in found.slices for one in zip(pair.a_per_s, pair.b_per_s, strict=True)]
    return [
        (number, side, rate)
        for number, rates in enumerate(both, start=1)
        for side, rate in zip("ab", rates, strict=True)
    ]


def _differences(known: Sequence[Difference]) -> Chart:
    colours = {"faster": "var(--good)", "slower": "var(--bad)"}
    return changes_chart(
        [(figure_name(one.figure), one.ratio, one.low, one.high) for one in known],
        name="differences",
        title="B against A",
        says="; ".join(
            f"{figure_name(one.figure)} {change_text(one.ratio)} ({change_text(one.low)} to "
            f"{change_text(one.high)}), {one.verdict}"
            for one in known
        )
        + ".",
        how="B over A with its 95 % interval. A difference is claimed if the interval excludes "
        "equality and the change is more than 1 %.",
        axis="change of B over A, %",
        colours=[colours.get(one.verdict, "var(--dim)") for one in known],
        column="figure",
    )


def _made(found: Comparison, rates: Sequence[tuple[int, str, float]], what: str) -> Chart:
    """Each run or slice."""
    return Chart(
        name=f"{what}s", title=f"Each {what}",
        says=f"Throughput of {len(rates)} {what}s in the order they were made, A and B in turn.",
        how=f"The mean of each {what}. What the machine did meanwhile shows as a trend that both "
        "have.",
        data=[
            {
                "type": "scatter", "mode": "markers", "name": f"{side.upper()}: {title}",
                "x": [n for n, own, _ in rates if own == side],
                "y": series([rate for _, own, rate in rates if own == side]),
                "marker": {"size": 9 if what == "run" else 5, "color": COLOURS[number],
                           "symbol": "circle" if side == "a" else "diamond"},
                "hovertemplate": what + " %{x}: %{y:.5g} items/s",
            }
            for number, (side, title) in enumerate((("a", found.a), ("b", found.b)))
        ],
        layout={
            "xaxis": {"title": {"text": what}},
            "yaxis": {"title": {"text": "items/s"}}, "hovermode": "closest",
        },
        columns={what: [n for n, _, _ in rates], "side": [s.upper() for _, s, _ in rates],
                 "items/s": [rate for _, _, rate in rates]},
    )  # fmt: skip


def tuning_charts(found: Tuning) -> list[Chart]:
    """The latest run of each candidate that came farthest, and the margin of the best."""
    latest = [found.latest(one) for one in dict.fromkeys([found.default, *found.candidates])]
    good = [
        (str(one.run.settings), one.round, rate_of(one.run))
        for one in latest
        if one is not None and one.run.failure is None and one.run.summary is not None
    ]
    good.sort(key=lambda one: (-one[1], -one[2]))
    charts = []
    if good:
        shown = good[:20]
        charts.append(
            Chart(
                name="candidates", title="What was tried",
                says=f"{shown[0][0]} came farthest, at {rate_text(shown[0][2])} items/s.",
                how="The last run of each configuration; those of earlier rounds were shorter. The "
                "margin over the default comes from the pairs alone.",
                data=[
                    {
                        "type": "bar", "orientation": "h", "name": f"round {number + 1}",
                        "x": series([rate for _, own, rate in shown if own == number]),
                        "y": [name for name, own, _ in shown if own == number],
                        "marker": {"color": COLOURS[number % len(COLOURS)]},
                        "hovertemplate": "%{y}: %{x:.5g} items/s<extra></extra>",
                    }
                    for number in sorted({own for _, own, _ in shown}, reverse=True)
                ],
                layout={
                    "xaxis": {"title": {"text": "items/s"}},
                    "yaxis": {"type": "category", "autorange": "reversed"},
                    "hovermode": "closest",
                },
                columns={"configuration": [name for name, _, _ in shown],
                         "round": [number + 1 for _, number, _ in shown],
                         "items/s": [rate for _, _, rate in shown]},
                height=110 + 26 * len(shown),
            )
        )  # fmt: skip
    if found.margin is not None:
        charts += comparison_charts(found.margin)
    return charts
