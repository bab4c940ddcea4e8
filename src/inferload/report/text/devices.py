"""What a report says of calls on a device: where their time went, and what each device did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table

from inferload.records.devices import LEAST_SLOWED
from inferload.report.text.parts import quoted_text, wanting_note
from inferload.runs.checks.advice import cuda_graphs, in_python, without_gil
from inferload.units import bytes_text, milliseconds_text, rate_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferload.records.devices import DeviceFigures, StageFigures
    from inferload.records.result import RunResult
    from inferload.records.spec import RunSpec

#: A device that is busy for so much of a run is its bound, wherever callers wait: with more than it
#: can serve they stand in the driver's queue for launches, which looks like issue time.
BUSY = 0.95
#: Up to here a device has time to spare, and something else is the bound.
IDLE = 0.6
#: A device that has work for less than this is launched next to nothing.
UNUSED = 0.05
# NVML's figure is a mean of up to a second (nvmlDeviceGetUtilizationRates).
LEAST_BUSY_S = 1.0
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
            table.add_row(
                label,
                milliseconds_text(stage.mean),
                *map(quoted_text, (stage.p50, stage.p99)),
                f"{stage.mean / whole_ms:.0%}",
                style="dim" if label.startswith(" ") else None,
            )
    known = [stage for stage in rows.values() if stage is not None]
    table.caption = wanting_note([one.more_calls for one in known], ("p50", "p99")) or None
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
    unit = result.spec.unit
    items = any(n != 1 for n in result.spec.items_per_input)
    energy = "J/item" if items else f"J/{unit}"
    columns = ["device", f"{unit}s/s", "p50", "p99", "busy", "clock", "power", energy]
    columns.append("peak memory")
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
    wanted = [one.more_calls for one in result.devices]
    table.caption = wanting_note(wanted, ("p50", "p99")) or None
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
    """One sentence on what bounds calls on a device; ``None`` of calls on the CPU.

    A device that is busy is the bound, wherever callers wait for it. One that has time to spare is
    not, and the largest stage is. In between, or where it is not known, nothing is named but what
    is known. What was not tried is said to be a guess.
    """
    summary = result.summary
    response = summary.response_ms
    if summary.stages is None or response is None or not response.mean:
        return None
    shares = {
        "queue": 0.0 if summary.queue_ms is None else summary.queue_ms.mean / response.mean,
        "issue": summary.stages.issue_ms.mean / response.mean,
        "wait": summary.stages.wait_ms.mean / response.mean,
    }
    said = _sentence(result, summary.stages, shares, Busy.of(result))
    return said if result.made_by is not None else in_python(said)


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """For how much of a run the devices had work; of several the least and the most busy one.

    By NVML: that some kernel ran, whoever's, and however little of the device it took. Or by events
    around each call: ``bound``, no more than that, as a call that waits for its host between two
    kernels counts.
    """

    least: float
    most: float
    bound: bool = False

    @classmethod
    def of(cls, result: RunResult) -> Busy | None:
        """``None`` where it is not known: no telemetry, or too short a run for it."""
        if not result.devices:
            return None
        seen = [one.utilization_fraction for one in result.devices]
        known = [one for one in seen if one is not None]
        if len(known) == len(seen) and result.summary.duration_s >= LEAST_BUSY_S:
            return cls(least=min(known), most=max(known))
        stages = result.summary.stages
        if stages is None or stages.device_ms is None or result.summary.failed_calls:
            return None
        if any(one.code == "other-streams" for one in result.warnings):
            return None  # events are on the callers' streams
        call_s = _on_device_ms(stages) / 1e3
        shares = [one.throughput_calls_per_s * call_s for one in result.devices]
        return cls(least=0.0, most=max(shares), bound=True) if max(shares) < IDLE else None

    def __str__(self) -> str:
        if self.bound:
            return f"at most {self.most:.0%}"
        between = f"{self.least:.0%} to " if f"{self.least:.0%}" != f"{self.most:.0%}" else ""
        return f"{between}{self.most:.0%}"


def _sentence(
    result: RunResult, stages: StageFigures, shares: dict[str, float], busy: Busy | None
) -> str:
    spec = result.spec
    parts = [
        f"{text} {shares[name]:.0%}"
        for name, text in (
            ("queue", "waiting for a free caller"),
            ("issue", "issue"),
            ("wait", "waiting for the device"),
        )
        if shares[name] >= 0.005
    ]
    known = f"{', '.join(parts)} of response"
    if busy is not None and busy.least >= BUSY:
        return (
            f"bound by the device: some kernel ran for {busy} of the run, so calls wait for it "
            f"wherever they wait ({known}); a guess: larger batches, lower precision or another "
            "device help, more callers do not"
        )
    if busy is not None and busy.most > IDLE:
        devices = "the device was" if len(result.devices) == 1 else "the devices were"
        return (
            f"no one bound is known: {devices} busy for {busy} of the run; {known}. Runs with "
            "fewer and more callers tell which gives way (inferload sweep MODEL --callers)"
        )
    largest = max(shares, key=lambda name: shares[name])
    share = f"{shares[largest]:.0%} of response"
    if shares[largest] < 0.5:
        return f"no one bound: {known}"
    if largest == "queue":
        return (
            f"bound by its queue: {share} is waiting for a free caller; a guess: more callers, or "
            "a lower rate"
        )
    if largest == "issue":
        return _by_issue(spec, share, known, busy)
    return _by_wait(stages, share, spec, busy)


def _by_issue(spec: RunSpec, share: str, known: str, busy: Busy | None) -> str:
    if busy is None:
        return (
            f"no one bound is known: {known}; but how busy the device was is not known, and "
            "launches wait for a device that has all it can do"
        )
    several = ", or for each other" if spec.callers_per_process > 1 else ""
    if busy.most < UNUSED:
        return (
            f"bound by the host: {share} passes there before a call returns, and the device had "
            f"work for {busy} of the run: not launches but Python, or waiting within the "
            f"model{several}; inferload explain MODEL tells which"
        )
    ways = [one for one in (cuda_graphs(spec), "larger batches", without_gil(spec)) if one]
    return (
        f"bound by the host: {share} passes there before a call returns (launching kernels, "
        f"Python, waiting within the model by .item() or .cpu(){several}), and the device was busy "
        f"for {busy} of the run; a guess: {', or '.join(ways)}; inferload explain MODEL tries them"
    )


def _on_device_ms(stages: StageFigures) -> float:
    """What a call takes on the device, with its copies, in the mean."""
    timed = (stages.device_ms, stages.copy_in_ms, stages.copy_out_ms)
    return sum(one.mean for one in timed if one is not None)


def _by_wait(stages: StageFigures, share: str, spec: RunSpec, busy: Busy | None) -> str:
    """What callers wait for whose work is all enqueued."""
    timed = None if stages.device_ms is None else _on_device_ms(stages)
    if timed is not None and timed < 0.5 * stages.wait_ms.mean:
        return (
            f"bound by waiting: {share} is waiting for the device, where a call itself takes "
            f"{milliseconds_text(timed)}; a guess: {_why_it_waits(spec)}"
        )
    copies = [one.mean for one in (stages.copy_in_ms, stages.copy_out_ms) if one is not None]
    if stages.device_ms is not None and sum(copies) > stages.device_ms.mean:
        return (
            f"bound by copies: {share} is waiting for the device, and copies take "
            f"{milliseconds_text(sum(copies))} where the model takes "
            f"{milliseconds_text(stages.device_ms.mean)}; a guess: send less, or a smaller type"
        )
    if spec.streams == "shared" and spec.callers_per_process > 1:
        return (
            f"bound by the shared stream: {share} is waiting for calls before it; a guess: a "
            "stream for each caller (--streams per-caller)"
        )
    if busy is not None and timed is not None:
        return (
            f"bound by what a call takes on the device, {milliseconds_text(timed)}: {share} is "
            f"waiting for it, which was busy for {busy} of the run and has room for more calls at "
            "once; a guess: lower precision or another device make a call faster"
        )
    if busy is not None:
        return (
            f"bound by waiting: {share} is waiting for the device, which was busy for only {busy} "
            f"of the run; a guess: {_why_it_waits(spec)}"
        )
    return (
        f"bound by the device: {share} is waiting for it with all work enqueued; a guess: larger "
        "batches, lower precision or another device help, more callers do not"
    )


def _why_it_waits(spec: RunSpec) -> str:
    if spec.processes > 1:
        return "processes take turns on a device unless they share it (NVIDIA MPS)"
    if spec.completion == "event":
        return "waking up after an event takes its time (--completion sync)"
    return "other callers or programs keep it, copies, or the caller was off its core"
