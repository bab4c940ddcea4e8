"""The table of runs that differ in their batch size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from inferload.report.text.devices import diagnosis, joules_text
from inferload.report.text.parts import quoted_text, wanting_note
from inferload.units import rate_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from inferload.records.result import RunResult


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLine:
    """The run of one batch size, or what it failed by."""

    size: int
    result: RunResult | None
    failure: str | None = None


def batches_report(lines: Sequence[BatchLine]) -> RenderableType:
    """The table, and below it what bounds each size, what it failed by and what is doubtful."""
    parts: list[RenderableType] = [batches_table(lines), Text()]
    for one in lines:
        if one.failure is not None:
            parts.append(Text(f"batch {one.size}: {one.failure}", style="red"))
        if one.result is None:
            continue
        if (bound := diagnosis(one.result)) is not None:
            parts.append(Text(f"batch {one.size}: {bound}"))
        parts += [
            Text(f"! batch {one.size}: {warning.message} [{warning.code}]", style="yellow")
            for warning in one.result.warnings
        ]
    return Group(*parts)


def batches_table(lines: Sequence[BatchLine]) -> Table:
    """A line for each size: items and calls per second, latency, time on the device, energy."""
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    results = [one.result for one in lines if one.result is not None]
    on_device = any(result.summary.stages for result in results)
    energy = any(_energy_per_item_j(result) for result in results)
    names = ["batch", "items/s", "calls/s", "p50", "p99", *["device"] * on_device]
    for name in [*names, *["J/item"] * energy, ""]:
        table.add_column(name, justify="left" if not name else "right", no_wrap=True)
    most = max((one.summary.throughput_items_per_s.value for one in results), default=0.0)
    for one in lines:
        summary = None if one.result is None else one.result.summary
        if one.result is None or summary is None or summary.response_ms is None:
            table.add_row(str(one.size), *["-"] * (len(names) - 1 + energy), "failed")
            continue
        quantiles = (summary.response_ms.p50, summary.response_ms.p99)
        cells = [
            rate_text(summary.throughput_items_per_s.value),
            rate_text(summary.throughput_calls_per_s.value),
            *map(quoted_text, quantiles),
        ]
        if on_device:
            device = None if summary.stages is None else summary.stages.device_ms
            cells.append(quoted_text(None if device is None else device.p50))
        if energy:
            joules = _energy_per_item_j(one.result)
            cells.append("-" if joules is None else joules_text(joules))
        best = summary.throughput_items_per_s.value == most and len(results) > 1
        note = "failed" if one.failure is not None else "most items" if best else ""
        table.add_row(str(one.size), *cells, note, style="bold" if note == "most items" else None)
    known = [one.summary.response_ms for one in results]
    wanted = [one.more_calls for one in known if one is not None]
    table.caption = wanting_note(wanted, ("p50", "p99")) or None
    return table


def _energy_per_item_j(result: RunResult) -> float | None:
    """Of the devices, or of the processors where there are none."""
    known = [one.energy_j for one in result.devices]
    if not result.devices:
        known = [result.cpu_energy_j]
    summary = result.summary
    items = summary.throughput_items_per_s.value * summary.duration_s
    if not known or any(one is None for one in known) or not items:
        return None
    return sum(one for one in known if one is not None) / items
