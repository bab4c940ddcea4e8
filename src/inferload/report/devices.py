"""What a report says of calls on a device: where their time went, and what each device did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from inferload.device_figures import LEAST_SLOWED
from inferload.units import bytes_text, milliseconds_text, rate_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferload.device_figures import DeviceFigures, StageFigures
    from inferload.records import RunResult, RunSpec

#: A device that is busy for so much of a run is its bound, wherever callers wait: with more than it
#: can serve they stand in the driver's queue for launches, which looks like issue time.
BUSY_ALL_THE_TIME = 0.97
LABELS = {
    "issue": "issue (host)",
    "wait": "wait for device",
    # on the device, while the host issues and waits
    "copy_in": "  copy in",
    "device": "  on the device",
    "copy_out": "  copy out",
}


def stages_table(result: RunResult) -> Table:
    """A line for each stage: its distribution, and its share of the mean response time.

    That of the same calls: of fast ones not all are timed on the device.
    """
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    for name in ("stage", "mean", "p50", "p99", "of response"):
        table.add_column(name, justify="left" if name == "stage" else "right", no_wrap=True)
    summary = result.summary
    if summary.stages is None or summary.response_ms is None:
        return table
    all_ms = summary.response_ms.mean or 1.0
    timed_ms = summary.stages.timed_response_ms or all_ms
    rows = {"queue": summary.queue_ms}
    rows |= {label: getattr(summary.stages, f"{name}_ms") for name, label in LABELS.items()}
    for label, stage in rows.items():
        if stage is not None:
            whole_ms = timed_ms if label.startswith(" ") else all_ms
            values_ms = (stage.mean, stage.quantile(0.5), stage.quantile(0.99))
            table.add_row(
                label,
                *map(milliseconds_text, values_ms),
                f"{stage.mean / whole_ms:.0%}",
                style="dim" if label.startswith(" ") else None,
            )
    return table


def timed_calls(result: RunResult) -> list[str]:
    """A line where the stages on the device are those of a sample of the calls."""
    stages = result.summary.stages
    if stages is None or stages.device_ms is None:
        return []
    timed, calls = stages.device_ms.count, stages.issue_ms.count
    if timed >= calls:
        return []
    return [
        f"on the device: {timed:,} calls of {calls:,}, drawn at random; timing each would slow all"
    ]


def devices_table(result: RunResult) -> Table:
    """A line for each device: its calls, its clocks and what it drew."""
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    columns = ["device", "calls/s", "p50", "p99", "busy", "clock", "power", "J/call", "peak memory"]
    items = any(n != 1 for n in result.spec.items_per_input)
    if items:
        columns[columns.index("J/call")] = "J/item"
    for name in columns:
        table.add_column(name, justify="left" if name == "device" else "right", no_wrap=True)
    for one in result.devices:
        cells = [
            one.device if one.host is None else f"{one.host} {one.device}",
            rate_text(one.throughput_calls_per_s),
            _or_dash(one.p50_ms, milliseconds_text),
            _or_dash(one.p99_ms, milliseconds_text),
            "-" if one.utilization_fraction is None else f"{one.utilization_fraction:.0%}",
            "-" if one.sm_clock_mhz is None else f"{one.sm_clock_mhz:.0f} MHz",
            "-" if one.power_w is None else f"{one.power_w:.0f} W",
            _or_dash(one.energy_per_item_j if items else one.energy_per_call_j, joules_text),
            _memory(one),
        ]
        table.add_row(*cells)
    return table


def power_caps(result: RunResult) -> list[str]:
    """A line for each device whose clocks its power limit held back, as is normal at full load."""
    return [
        f"{one.device}: clocks held to the power limit"
        + ("" if one.power_limit_w is None else f" of {one.power_limit_w:.0f} W")
        + f" in {one.power_capped_fraction:.0%} of the looks"
        for one in result.devices
        if (one.power_capped_fraction or 0.0) >= LEAST_SLOWED
    ]


def _or_dash(value: float | None, text: Callable[[float], str]) -> str:
    return "-" if value is None else text(value)


def joules_text(joules: float) -> str:
    """Such as ``"1.23 mJ"``.

    >>> joules_text(0.00123), joules_text(12.3)
    ('1.23 mJ', '12.3 J')
    """
    unit, value = ("J", joules) if joules >= 1 else ("mJ", joules * 1e3)
    return f"{value:.3g} {unit}"


def _memory(one: DeviceFigures) -> str:
    used = one.peak_allocated_bytes or one.peak_used_bytes
    return "-" if used is None else bytes_text(used)


def energy_text(result: RunResult) -> str:
    """What the processors took, all and for each call; empty if that is not known."""
    joules, calls = result.cpu_energy_j, result.summary.completed_calls
    if joules is None or not calls:
        return ""
    items = result.summary.throughput_items_per_s.value * result.summary.duration_s
    found = f"processor packages {joules_text(joules)}, {joules_text(joules / calls)} a call"
    if round(items) != calls:
        found += f", {joules_text(joules / items)} an item"
    return found


def diagnosis(result: RunResult) -> str | None:
    """One sentence on what bounds calls on a device; ``None`` of calls on the CPU."""
    summary, spec = result.summary, result.spec
    stages, response = summary.stages, summary.response_ms
    if stages is None or response is None or not response.mean:
        return None
    shares = {
        "queue": 0.0 if summary.queue_ms is None else summary.queue_ms.mean / response.mean,
        "issue": stages.issue_ms.mean / response.mean,
        "wait": stages.wait_ms.mean / response.mean,
    }
    largest = max(shares, key=lambda name: shares[name])
    share = f"{shares[largest]:.0%} of response"
    if largest == "queue":
        return (
            f"bound by its queue: {share} is waiting for a free caller; add callers, or call less"
        )
    if largest == "issue" and _least_busy(result) >= BUSY_ALL_THE_TIME:
        return (
            f"bound by the device: it was busy for {_least_busy(result):.0%} of the run, and the "
            f"CPU, which launches kernels for {share}, waits for it there; larger batches, lower "
            "precision or another device help, more callers do not"
        )
    if largest == "issue":
        said = f"bound by issue time: {share} is the CPU launching kernels; try"
        if spec.form == "cudagraph":
            return f"{said} larger batches"
        python = spec.executor == "threads" and spec.callers_per_process > 1
        without_gil = ", or callers without the GIL (--form aoti)" if python else ""
        return (
            f"{said} CUDA graphs or larger batches{without_gil} (or does the model wait for the "
            "device itself, by .item() or .cpu()?)"
        )
    return f"bound by {_bound_by_device(stages, share, spec)}"


def _least_busy(result: RunResult) -> float:
    """Of how much of the run the least busy device had work; 0 if that is not known of all."""
    return min((one.utilization_fraction or 0.0 for one in result.devices), default=0.0)


def _why_it_waits(spec: RunSpec) -> str:
    if spec.processes > 1:
        return "processes take turns on a device unless they share it (NVIDIA MPS)"
    if spec.completion == "event":
        return "waking up after an event takes its time (--completion sync)"
    return "other callers or programs keep it, or the caller was off its core"


def _bound_by_device(stages: StageFigures, share: str, spec: RunSpec) -> str:
    if stages.device_ms is not None:
        busy = stages.device_ms.mean + sum(
            one.mean for one in (stages.copy_in_ms, stages.copy_out_ms) if one is not None
        )
        if busy < 0.5 * stages.wait_ms.mean:
            return (
                f"waiting: {share} is waiting for the device, where a call itself takes "
                f"{milliseconds_text(busy)}; {_why_it_waits(spec)}"
            )
    copies = [one.mean for one in (stages.copy_in_ms, stages.copy_out_ms) if one is not None]
    if stages.device_ms is not None and sum(copies) > stages.device_ms.mean:
        return (
            f"copies: {share} is waiting for the device, and copies take "
            f"{milliseconds_text(sum(copies))} where the model takes "
            f"{milliseconds_text(stages.device_ms.mean)}; send less, or in a smaller type"
        )
    if spec.streams == "shared" and spec.callers_per_process > 1:
        return (
            f"the shared stream: {share} is waiting for calls before it; give each caller its own "
            "(--streams per-caller)"
        )
    return (
        f"the device: {share} is waiting for it; larger batches, lower precision or another device "
        "help, more callers do not"
    )
