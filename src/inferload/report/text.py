"""The terminal report of one run."""

from __future__ import annotations

import math
from io import StringIO
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from inferload.records import QUOTED_QUANTILES
from inferload.stats import calls_to_quote
from inferload.units import bytes_text, count_text, duration_text, milliseconds_text, rate_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from inferload.records import Distribution, Floats, RunResult

BINS = 10
BAR_WIDTH = 36
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_LABELS = {"p999": "p99.9", "p9999": "p99.99"}
_STATUS = {
    "failed": "the target raised: the figures cover the calls before",
    "interrupted": "interrupted: the figures cover the calls until then",
}


def plain_report(result: RunResult, width: int = 80) -> str:
    """The report as plain text, for ``print`` and for tickets."""
    text = StringIO()
    Console(file=text, width=width, color_system=None, highlight=False, markup=False).print(
        report(result)
    )
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def report(result: RunResult) -> RenderableType:
    """The report as something rich can print."""
    parts: list[RenderableType] = [_header(result), Text(), _figures(result)]
    summary = result.summary
    if summary.response_ms is not None:
        parts += [Text(), _percentiles(result)]
        if note := _too_few(result):
            parts.append(Text(note, style="dim"))
        parts += [Text(), _histogram(summary.response_ms)]
    if result.warnings:
        parts += [Text(), _warnings(result)]
    return Group(*parts)


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    return grid


def _header(result: RunResult) -> Table:
    spec, found = result.spec, result.environment
    grid = _grid()
    grid.add_row("target", Text(f"{spec.target} ({spec.form})", style="bold cyan"))
    end = f"{spec.duration_s:g} s" if spec.calls is None else count_text(spec.calls, "call")
    grid.add_row(
        "load",
        f"{spec.load}, {count_text(spec.callers, 'caller')} ({spec.executor}), {end}, "
        f"{spec.warmup_calls} warm-up calls each",
    )
    grid.add_row(
        "call",
        f"{count_text(spec.threads_per_call, 'intra-op thread')}, {spec.grad_mode} mode, "
        f"autocast {spec.autocast}",
    )
    shown = "; ".join(spec.inputs[:2]) + ("; ..." if len(spec.inputs) > 2 else "")
    seed = f", seed {spec.seed}" if len(spec.inputs) > 1 else ""
    grid.add_row("inputs", Text(f"{len(spec.inputs):,}{seed}: {shown}"))
    cores = f"{found.get('usable_cores', 0):g} of {found.get('cores')} cores"
    devices = ", ".join(found.get("devices", []))
    grid.add_row("machine", f"{found.get('cpu')}, {cores}" + (f", {devices}" if devices else ""))
    grid.add_row(
        "build",
        f"torch {found.get('torch')}, Python {found.get('python')}, {found.get('cpu_capability')}",
    )
    if result.status != "complete":
        grid.add_row("status", Text(_STATUS[result.status], style="bold red"))
    return grid


def _figures(result: RunResult) -> Table:
    summary, set_up = result.summary, result.set_up
    grid = _grid()
    throughput = f"{rate_text(summary.throughput_calls_per_s.value)} calls/s"
    if any(items != 1 for items in result.spec.items_per_input):
        throughput += f", {rate_text(summary.throughput_items_per_s.value)} items/s"
    grid.add_row("throughput", Text(throughput, style="bold green"))
    failed = f", {summary.failed_calls:,} failed" if summary.failed_calls else ""
    grid.add_row(
        "calls", f"{summary.completed_calls:,}{failed} in {duration_text(summary.duration_s)}"
    )
    first = "not known: no warm-up calls"
    if set_up.first_call_ms is not None:
        first = milliseconds_text(set_up.first_call_ms)
        if summary.service_ms is not None and summary.service_ms.p50 is not None:
            first += f" ({set_up.first_call_ms / summary.service_ms.p50.value:,.1f}x the median)"
    grid.add_row("first call", first)
    grid.add_row(
        "set-up",
        f"{duration_text(set_up.prepare_s)} to prepare, {duration_text(set_up.open_s)} to start "
        f"and warm up, log {bytes_text(set_up.log_bytes)}",
    )
    return grid


def _percentiles(result: RunResult) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    table.add_column("", style="bold", no_wrap=True)
    columns = ["mean", "min", *QUOTED_QUANTILES, "max"]
    for name in columns:
        table.add_column(_LABELS.get(name, name), justify="right", no_wrap=True)
    summary = result.summary
    rows = {"latency": summary.response_ms}
    if summary.queue_ms is not None and summary.queue_ms.max > 0:
        rows |= {"service": summary.service_ms, "queue": summary.queue_ms}
    middle_ms = summary.response_ms.quantile(0.5) if summary.response_ms is not None else 0.0
    unit, per_ms = ("us", 1e3) if middle_ms < 1 else ("ms", 1.0) if middle_ms < 1e4 else ("s", 1e-3)
    for label, distribution in rows.items():
        if distribution is not None:
            cells = (_cell(distribution, name, per_ms) for name in columns)
            table.add_row(f"{label} {unit}", *cells)
    return table


def _cell(distribution: Distribution, name: str, per_ms: float) -> str:
    found = getattr(distribution, name)
    if found is None:
        return "-"
    value = (found if isinstance(found, float) else found.value) * per_ms
    if value == 0:
        return "0"
    # four significant digits, but no more than three decimals
    return f"{value:.{min(max(3 - math.floor(math.log10(abs(value))), 0), 3)}f}"


def _too_few(result: RunResult) -> str | None:
    """What the quantiles that are left out would need."""
    distribution = result.summary.response_ms
    missing = [name for name in QUOTED_QUANTILES if getattr(distribution, name) is None]
    if distribution is None or not missing:
        return None
    wanted = ", ".join(
        f"{_LABELS.get(name, name)} {calls_to_quote(QUOTED_QUANTILES[name]):,}" for name in missing
    )
    return f"-  too few calls to quote; at least: {wanted}"


def _histogram(distribution: Distribution) -> Table:
    """Counts of latencies in bins of equal ratio, on bars of equal scale."""
    values = distribution.sample.values_ms if distribution.sample else np.empty(0)
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    edges = _edges(values)
    counts, _ = np.histogram(values, edges)
    for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
        share = count / len(values)
        table.add_row(
            f"{milliseconds_text(float(low))} - {milliseconds_text(float(high))}",
            Text(_bar(count / counts.max()), style="cyan"),
            f"{share:.2%}" if count else "0",
        )
    return table


def _edges(values: Floats) -> Floats:
    low, high = float(values[0]), float(values[-1])
    if low <= 0 or high / low < 1.001:
        middle = (low + high) / 2 or 1e-6
        return np.array([middle * 0.999, middle * 1.001 + (high - low)])
    edges = np.geomspace(low, high, BINS + 1)
    edges[0], edges[-1] = low, high
    return edges


def _bar(share: float) -> str:
    eighths = round(share * BAR_WIDTH * 8)
    if share > 0:
        eighths = max(eighths, 1)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _warnings(result: RunResult) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style="yellow", no_wrap=True)
    grid.add_column()
    for warning in result.warnings:
        grid.add_row("!", Text(f"{warning.message} [{warning.code}]", style="yellow"))
        grid.add_row("", Text(f"-> {warning.hint}"))
    return grid
