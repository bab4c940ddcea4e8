"""The page of a run, and that of several runs side by side."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from inferload.report.charts.batches import sizes_chart
from inferload.report.charts.latency import curves_chart, histogram_chart, percentiles_chart
from inferload.report.charts.pieces import pieces_chart
from inferload.report.charts.resources import cores_chart, device_charts, memory_chart
from inferload.report.charts.series import slowest
from inferload.report.charts.time import callers_chart, over_time_chart
from inferload.report.html.media import html_of_all
from inferload.report.html.page import Headline, Section, table_of
from inferload.report.html.sections import (
    environment_section,
    how_section,
    reproduce_section,
    warnings_section,
)
from inferload.report.text.facts import few_calls_text
from inferload.report.text.parts import STATUS
from inferload.report.text.reproduce import reproduction
from inferload.report.text.run import blocks
from inferload.report.text.several import several_table
from inferload.units import (
    NS_PER_MS,
    NS_PER_S,
    count_text,
    duration_text,
    milliseconds_text,
    rate_text,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.records.distribution import Estimate
    from inferload.records.result import RunResult
    from inferload.report.charts.chart import Chart


def run_page(result: RunResult) -> tuple[Headline, list[Section]]:
    """What is said first, and the sections below it."""
    said = blocks(result)

    def words(*names: str) -> str:
        return html_of_all(part for name in names for part in said.get(name, []))

    sections = [
        warnings_section(result.warnings),
        Section(title="The run", body=words("header", "figures")),
        Section(
            title="Latency",
            body=words("percentiles"),
            charts=_there(percentiles_chart(result), histogram_chart(result)),
        ),
        Section(title="Stages of the load", body=words("load stages")),
        Section(title="Calls that failed", body=words("failures")),
        Section(title="What the server says", body=words("server says")),
        Section(title="Pieces", body=words("pieces"), charts=_there(pieces_chart(result))),
        Section(title="Batches", body=words("batches"), charts=_there(sizes_chart(result))),
        Section(
            title="Along the run", charts=_there(over_time_chart(result), callers_chart(result))
        ),
        Section(
            title="Where the time goes",
            body=words("stages", "devices"),
            charts=tuple(device_charts(result)),
        ),
        Section(
            title="Models, ranks and processes",
            body=words("models", "ranks", "processes", "layout"),
        ),
        Section(title="Resources", charts=_there(cores_chart(result), memory_chart(result))),
        Section(title="The slowest calls", body=_slowest(result), folded=True),
        how_section(),
        reproduce_section(reproduction(result)),
        environment_section(result.environment),
    ]
    return _headline(result), [one for one in sections if one.body or one.charts]


def several_page(results: dict[str, RunResult]) -> tuple[Headline, list[Section]]:
    """Runs side by side: a line for each, and their curves in one chart."""
    own = {
        name: one.summary.response_ms
        for name, one in results.items()
        if one.summary.response_ms is not None
    }
    warnings = [
        f"<li>{escape(name)}: <span class=doubtful>{escape(each.message)}</span> "
        f"[{escape(each.code)}]<br>{escape(each.hint)}</li>"
        for name, one in results.items()
        for each in one.warnings
    ]
    charts: tuple[Chart, ...] = ()
    if own:
        says = f"Response times of {len(own)} runs: {', '.join(own)}."
        charts = (curves_chart("percentiles", "Latency by percentile", own, says),)
    sections = [
        Section(title="Side by side", body=html_of_all([several_table(results)])),
        Section(title="Latency", charts=charts),
        Section(
            title="What is doubtful",
            body=f"<ul class=warnings>{''.join(warnings)}</ul>" if warnings else "",
        ),
        how_section(),
        reproduce_section("\n\n".join(map(reproduction, results.values()))),
        *(
            environment_section(one.environment, f"Environment of {name}")
            for name, one in results.items()
        ),
    ]
    headline = Headline(
        title=f"{len(results)} runs", subtitle="one after another: what the machine did between "
        "them is in no interval; inferload compare runs models in turn"
    )  # fmt: skip
    return headline, [one for one in sections if one.body or one.charts]


def _there(*charts: Chart | None) -> tuple[Chart, ...]:
    return tuple(one for one in charts if one is not None)


def _headline(result: RunResult) -> Headline:
    summary, spec = result.summary, result.spec
    response = summary.response_ms
    figures = [("throughput", *_rate_card(summary.throughput_calls_per_s, spec.unit))]
    if few := few_calls_text(summary, spec.unit):
        value, _, why = few.partition(" (")
        figures = [("throughput", value, why.rstrip(")"))]
    for name in ("p50", "p99"):
        one = None if response is None else getattr(response, name)
        if one is not None:
            figures.append((f"response {name}", milliseconds_text(one.value), _between(one)))
        elif response is not None:
            more = response.more_calls.get(name)
            why = "among the unfinished" if more is None else f"takes {more:,} more calls"
            if response.not_quoted is not None:
                why = "the queue grew"
            figures.append((f"response {name}", "not quoted", why))
    failed = f"{summary.failed_calls:,} failed" if summary.failed_calls else "none failed"
    if summary.unfinished_calls:
        failed += f", {summary.unfinished_calls:,} unfinished"
    took = f"in {duration_text(summary.duration_s)}, {failed}"
    figures.append((f"{spec.unit}s", f"{summary.completed_calls:,}", took))
    callers = f"{count_text(spec.callers, 'caller')} ({spec.executor})"
    subtitle = f"{spec.load}, {callers}, made {result.created_at}"
    if result.status != "complete":
        subtitle += f". {STATUS[result.status]}"
    return Headline(title=f"{spec.target} ({spec.form})", subtitle=subtitle, figures=tuple(figures))


def _rate_card(one: Estimate, unit: str) -> tuple[str, str]:
    between = ""
    if one.low is not None and one.high is not None:
        between = f"{rate_text(one.low)} to {rate_text(one.high)}"
    return f"{rate_text(one.value)} {unit}s/s", between


def _between(one: Estimate) -> str:
    if one.low is None or one.high is None:
        return ""
    return f"{milliseconds_text(one.low)} to {milliseconds_text(one.high)}"


def _slowest(result: RunResult) -> str:
    log = result.log
    rows = slowest(log, from_ns=round(result.summary.from_s * NS_PER_S))
    if not len(rows):
        return ""
    columns: dict[str, Sequence[Any]] = {
        "due at s": (log.scheduled_ns[rows] / NS_PER_S).tolist(),
        "response ms": (log.response_ns[rows] / NS_PER_MS).tolist(),
        "queue ms": (log.queue_ns[rows] / NS_PER_MS).tolist(),
        "service ms": (log.service_ns[rows] / NS_PER_MS).tolist(),
        "caller": log.caller[rows].tolist(),
        "input": [result.spec.inputs[one] for one in log.input[rows].tolist()],
    }
    sample = "" if log.tally is None else f"<p>Of the {len(log):,} calls that the log sampled.</p>"
    return sample + table_of(columns, is_open=True)
