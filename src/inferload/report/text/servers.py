"""What a report says of servers, and of calls that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from inferload.report.text.parts import captioned
from inferload.units import bytes_text, count_text, duration_text, milliseconds_text, printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from rich.console import RenderableType

    from inferload.records.result import RunResult
    from inferload.records.server import (
        ModelStatistics,
        SaidMetric,
        ServerFigures,
        ServerSaid,
        ServerSpec,
    )

# Classes of failures that are shown, each with an example of so many characters.
MOST_CLASSES = 12
# Metrics of a server that are shown, those that are known first; the saved result has the others.
MOST_METRICS = 18
# Sizes of batches that are shown.
_MOST_SIZES = 8
_STAGES = {
    "queue": "waiting in the queue",
    "compute_input": "compute: inputs",
    "compute_infer": "compute: model",
    "compute_output": "compute: outputs",
}


def server_lines(result: RunResult) -> Iterator[tuple[str, str | Text]]:
    """Of each server: what it is, and what connections to it took."""
    for number, spec in enumerate(result.spec.servers):
        seen = result.servers[number] if number < len(result.servers) else None
        yield "server", _what(spec, seen)
        yield "connections", _connections(spec, seen, result.spec.callers)
        if spec.insecure:
            yield (
                "insecure",
                Text("its certificate was not verified (--insecure)", style="bold red"),
            )


def is_here(seen: ServerFigures) -> bool:
    """Whether a server shares the machine of what sends."""
    where = "" if seen.reached is None else seen.reached.address
    return where.startswith(("127.", "[::1]"))


def _what(spec: ServerSpec, seen: ServerFigures | None) -> str:
    parts = [f"{spec.protocol}, {spec.http}"]
    if seen is not None and seen.software:
        parts.append(f"says it is {printable(seen.software)[:60]}")
    if spec.model is not None:
        versions = ", ".join(map(printable, spec.model.versions))
        own = f"model {printable(spec.model.name)}" + (f" version {versions}" if versions else "")
        own += f" ({printable(spec.model.platform)})" if spec.model.platform else ""
        parts.append(own)
    if spec.headers:
        parts.append("headers " + ", ".join(name for name, _ in spec.headers))
    return "; ".join(parts)


def _connections(spec: ServerSpec, seen: ServerFigures | None, callers: int) -> str:
    new = spec.connections == "new"
    parts = ["a new one for each call" if new else f"{callers:,}, kept: one a caller"]
    if spec.http == "HTTP/1.0" and not new:
        parts = [f"{spec.http} keeps none: a new one for each call"]
    if seen is None:
        return parts[0]
    if seen.reached is not None:
        one = seen.reached
        took = f"to {one.address}: name {milliseconds_text(one.resolve_ms)}"
        took += f", connect {milliseconds_text(one.connect_ms)}"
        if one.tls_ms is not None:
            took += f", {one.tls} {milliseconds_text(one.tls_ms)}"
        parts.append(took)
    if seen.open_p50_ms is not None and seen.open_max_ms is not None:
        parts.append(
            f"{count_text(seen.opened, 'connection')} opened in the run, each within "
            f"{milliseconds_text(seen.open_p50_ms)} (p50; {milliseconds_text(seen.open_max_ms)} at "
            "most), a part of its call"
        )
    return "; ".join(parts)


def failures_table(result: RunResult) -> Table:
    """A line for each class of failures, with the first one as an example."""
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    table.add_column("failed", style="red", no_wrap=True)
    unit = f"{result.spec.unit}s"
    for name in (unit, "share", "first", "last"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("such as", overflow="fold")
    made = max(result.log.calls_made, 1)
    for one in result.failures[:MOST_CLASSES]:
        table.add_row(
            printable(one.type),
            f"{one.calls:,}",
            f"{one.calls / made:.1%}",
            duration_text(one.first_s),
            duration_text(one.last_s),
            printable(one.example),
        )
    notes = []
    if len(result.failures) > MOST_CLASSES:
        notes.append(f"and {len(result.failures) - MOST_CLASSES} more classes")
    if any(one.sampled for one in result.failures):
        notes.append("estimated: the log has a sample of the calls")
    elif sum(one.calls for one in result.failures) != result.summary.failed_calls:
        notes.append("of the whole run, also of what is cut off as warm-up")
    table.caption = captioned(*notes)
    return table


def said_tables(result: RunResult) -> list[RenderableType]:
    """Of each server that counts, what it counted."""
    found: list[RenderableType] = []
    shown: set[SaidMetric] = set()  # models behind one server share its metrics
    several = len(result.servers) > 1
    for spec, one in zip(result.spec.servers, result.servers, strict=False):
        if one.said is None or (one.said.statistics is None and shown.issuperset(one.said.metrics)):
            continue
        name = printable(spec.url if spec.model is None else spec.model.name)
        found.append(_said_table(result, one.said, name if several else "the server", shown))
        shown |= {*one.said.metrics}
    return found


def _said_table(
    result: RunResult, said: ServerSaid, who: str, shown: Collection[SaidMetric]
) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    table.add_column(f"{who} says", overflow="fold")
    for name in ("in the run", "mean", "p50", "p90", "p99"):
        table.add_column(name, justify="right", no_wrap=True)
    if said.statistics is not None:
        for cells in _statistics_rows(said.statistics):
            table.add_row(*cells, *[""] * (6 - len(cells)))
    metrics = [one for one in said.metrics if one not in shown]
    for one in metrics[:MOST_METRICS]:
        table.add_row(*_metric_row(one))
    left = len(metrics[MOST_METRICS:]) + said.metrics_left
    table.caption_justify = "left"
    table.caption = captioned(
        "read right before and after the run, with all other load on the server",
        "until rank 0 had ended" if result.spec.ranks > 1 else "",
        "p50, p90, p99: estimates by buckets" if any(one.largest for one in metrics) else "",
        f"{left:,} more metrics moved, see the saved result" if left else "",
    )
    return table


def _statistics_rows(found: ModelStatistics) -> Iterator[tuple[str, ...]]:
    for name, one in (("requests answered", found.success), ("requests failed", found.fail)):
        if one.count or name == "requests answered":
            yield name, f"{one.count:,}", _milliseconds(one.mean_ms)
    for stage, words in _STAGES.items():
        one = getattr(found, stage)
        if one.count:
            yield words, f"{one.count:,}", _milliseconds(one.mean_ms)
    if found.mean_batch is not None:
        yield "executions, samples in each", f"{found.executions:,}", f"{found.mean_batch:.2f}"
    for size, count in sorted(found.batches, key=lambda one: -one[1])[:_MOST_SIZES]:
        share = count / max(sum(each for _, each in found.batches), 1)
        yield f"  batches of {size:,}", f"{count:,}", f"{share:.1%}"


def _metric_row(one: SaidMetric) -> list[str]:
    labels = ", ".join(f"{name}={value}" for name, value in one.labels)
    name = printable(one.words or one.name) + (f" ({printable(labels)[:60]})" if labels else "")
    if one.kind == "gauge":
        return [f"{name}, at last", _value(one.value, one.unit), "", "", "", ""]
    if one.kind == "counter":
        mean = "" if one.mean is None else _value(one.mean, one.unit)
        return [name, _value(one.value, one.unit), mean, "", "", ""]
    mean = "" if one.mean is None else _value(one.mean, one.unit)
    quantiles = [_quantile(one, value) for value in (one.p50, one.p90, one.p99)]
    return [name, f"{one.value:,.0f}", mean, *quantiles]


def _quantile(one: SaidMetric, value: float | None) -> str:
    if one.largest is None or one.smallest is None:
        return ""
    if value is None:
        return f">{_value(one.largest, one.unit)}"
    # an estimate between nothing and the first edge says more than the buckets know
    within = value <= one.smallest
    return f"<={_value(one.smallest, one.unit)}" if within else _value(value, one.unit)


def _milliseconds(value: float | None) -> str:
    return "" if value is None else milliseconds_text(value)


def _value(value: float, unit: str) -> str:
    if unit == "ms":
        return milliseconds_text(value) if value >= 0 else f"-{milliseconds_text(-value)}"
    if unit == "B":
        return bytes_text(value)
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"
