"""The table of runs that differ in their batch size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table

from inferload.report.devices import joules_text
from inferload.units import milliseconds_text, rate_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.records import RunResult


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLine:
    """The run of one batch size, or what it failed by."""

    size: int
    result: RunResult | None
    failure: str | None = None


def batches_table(lines: Sequence[BatchLine]) -> Table:
    """A line for each size: items and calls per second, latency, time on the device, energy."""
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    on_device = any(one.result is not None and one.result.summary.stages for one in lines)
    energy = any(one.result is not None and _energy_per_item_j(one.result) for one in lines)
    names = ["batch", "items/s", "calls/s", "p50", "p99", *["device"] * on_device]
    names += ["J/item"] * energy + ["warnings"]
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    rates = [one.result.summary.throughput_items_per_s.value for one in lines if one.result]
    for one in lines:
        if one.result is None:
            table.add_row(str(one.size), *["-"] * (len(names) - 1), one.failure or "failed")
            continue
        summary = one.result.summary
        quantiles = [
            None if summary.response_ms is None else getattr(summary.response_ms, name)
            for name in ("p50", "p99")
        ]
        cells = [
            str(one.size),
            rate_text(summary.throughput_items_per_s.value),
            rate_text(summary.throughput_calls_per_s.value),
            *("-" if q is None else milliseconds_text(q.value) for q in quantiles),
        ]
        if on_device:
            device = None if summary.stages is None else summary.stages.device_ms
            cells.append("-" if device is None else milliseconds_text(device.quantile(0.5)))
        if energy:
            joules = _energy_per_item_j(one.result)
            cells.append("-" if joules is None else joules_text(joules))
        most = summary.throughput_items_per_s.value == max(rates)
        note = one.failure or ("most items" if most and len(rates) > 1 else "")
        cells += [str(len(one.result.warnings)), note]
        table.add_row(*cells, style="bold" if most and not one.failure else None)
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
