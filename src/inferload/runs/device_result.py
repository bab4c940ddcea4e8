"""Figures of each device of a run that has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inferload.log.calls import NO_STAGE
from inferload.machine.gpu_samples import (
    bare_uuid,
    energy_between,
    power_capped_fraction,
    thinned,
    throttled_fractions,
)
from inferload.records.devices import LEAST_SLOWED, DeviceFigures
from inferload.records.figures import RunWarning
from inferload.stats.parts import part_of
from inferload.stats.process_calls import (
    CallsOfLog,
    PartQuantiles,
    overloaded_processes,
    part_figures,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.log.calls import CallLog
    from inferload.records.devices import DeviceInfo, GpuSamples
    from inferload.records.figures import Summary
    from inferload.runs.execution import Execution, ProcessRecord

# The counter of energy moves every 0.1 s (H100): 10 % of this.
LEAST_ENERGY_S = 1.0
# What a result keeps of what the driver said is for a chart.
KEPT_SAMPLES = 512


def device_figures(
    done: Execution, summary: Summary, items_per_input: Sequence[int]
) -> tuple[DeviceFigures, ...]:
    """The figures of each device of each machine."""
    hosts = {one.rank: one.host for one in done.ranks}
    users: dict[tuple[str | int | None, str], list[ProcessRecord]] = {}
    infos: dict[tuple[str | int | None, str], DeviceInfo] = {}
    for process in done.processes:
        for info in process.ready.devices:
            # ranks of one machine may share a device, and may call it by different names
            key = (hosts.get(process.rank), info.uuid) if info.uuid else (process.rank, info.device)
            users.setdefault(key, []).append(process)
            infos.setdefault(key, info)
    return tuple(
        _figures(done, summary, items_per_input, infos[key], own, hosts.get(own[0].rank))
        for key, own in users.items()
    )


def _figures(
    done: Execution,
    summary: Summary,
    items_per_input: Sequence[int],
    info: DeviceInfo,
    processes: Sequence[ProcessRecord],
    host: str | None,
) -> DeviceFigures:
    duration_s = summary.duration_s
    found = [part_figures(process.calls, summary) for process in processes]
    calls, quantiles = sum(one.completed for one in found), PartQuantiles()
    items = (
        calls * summary.throughput_items_per_s.value / (summary.throughput_calls_per_s.value or 1.0)
    )
    if len(found) == 1:
        quantiles = found[0].quantiles
    if done.log.tally is None:
        own = _calls_of(done.log, [process.number for process in processes])
        returned = part_of(own, summary.from_s).returned_by_input
        items = float(returned @ np.asarray(items_per_input, np.int64)[: len(returned)])
        whole = part_figures(CallsOfLog(own), summary)
        calls, quantiles = whole.completed, whole.quantiles
    if {one.number for one in processes} & overloaded_processes(summary):
        quantiles = quantiles.not_quoted()
    memory = [
        one
        for process in processes
        for report in process.reports
        for one in report.device_memory
        if one.device == _own_name(process, info)
    ]
    samples = _samples_of(done, processes[0].rank, info)
    seen = {} if samples is None else _seen(samples, summary)
    measured = (summary.from_s, summary.from_s + duration_s)
    energy_j = None
    if samples is not None and duration_s >= LEAST_ENERGY_S:
        energy_j = energy_between(samples, *measured)
    return DeviceFigures(
        device=info.device,
        name=info.name,
        host=host,
        processes=tuple(process.number for process in processes),
        completed_calls=calls,
        throughput_calls_per_s=calls / duration_s if duration_s else 0.0,
        throughput_items_per_s=items / duration_s if duration_s else 0.0,
        p50_ms=quantiles.p50_ms,
        p99_ms=quantiles.p99_ms,
        more_calls=quantiles.more_calls,
        memory_bytes=info.memory_bytes,
        peak_allocated_bytes=_sum([one.peak_allocated_bytes for one in memory]),
        peak_reserved_bytes=_sum([one.peak_reserved_bytes for one in memory]),
        peak_used_bytes=None if samples is None else _peak_used(samples),
        max_sm_clock_mhz=None if samples is None else samples.max_sm_clock_mhz,
        power_limit_w=None if samples is None else samples.power_limit_w,
        energy_j=energy_j,
        energy_per_call_j=energy_j / calls if energy_j is not None and calls else None,
        energy_per_item_j=energy_j / items if energy_j is not None and items else None,
        throttled={} if samples is None else throttled_fractions(samples, *measured),
        power_capped_fraction=None
        if samples is None
        else power_capped_fraction(samples, *measured),
        samples=None if samples is None else thinned(samples, KEPT_SAMPLES),
        **seen,
    )


def _own_name(process: ProcessRecord, info: DeviceInfo) -> str:
    """What a process calls a device: ranks of one machine may see different ones."""
    same = [one.device for one in process.ready.devices if info.uuid and one.uuid == info.uuid]
    return same[0] if same else info.device


def _calls_of(log: CallLog, processes: Sequence[int]) -> CallLog:
    """The calls of some processes that were on a device."""
    wanted = np.ones(len(log), np.bool_)
    if log.callers_by_lane:
        wanted &= np.isin(log.process, processes)
    if "issue_ns" in log.stages:
        wanted &= log.stages["issue_ns"] != NO_STAGE
    return log.rows(wanted)


def _samples_of(done: Execution, rank: int, info: DeviceInfo) -> GpuSamples | None:
    if info.uuid is None:
        return None
    for samples in done.telemetry[rank].gpus if rank in done.telemetry else ():
        if bare_uuid(samples.uuid) == bare_uuid(info.uuid):
            return samples
    return None


def _seen(samples: GpuSamples, summary: Summary) -> dict[str, float | None]:
    """Means over the measured part."""
    end_s = summary.from_s + summary.duration_s
    inside = [n for n, time_s in enumerate(samples.times_s) if summary.from_s <= time_s <= end_s]
    # a run shorter than a look has one before it and one after it
    inside = inside or [*range(len(samples.times_s))][-1:]
    found: dict[str, float | None] = {}
    for name in (
        "utilization_fraction",
        "sm_clock_mhz",
        "memory_clock_mhz",
        "power_w",
        "temperature_c",
    ):
        column = getattr(samples, name)
        values = [column[n] for n in inside if column[n] is not None]
        found[name] = sum(values) / len(values) if values else None
    return found


def _peak_used(samples: GpuSamples) -> int | None:
    return max((one for one in samples.used_memory_bytes if one is not None), default=None)


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def device_warnings(figures: Sequence[DeviceFigures], troubles: Sequence[str]) -> list[RunWarning]:
    """What is doubtful about a run by what its devices did."""
    found = []
    for one in figures:
        slowed = {why: share for why, share in one.throttled.items() if share >= LEAST_SLOWED}
        if slowed:
            reasons = ", ".join(f"{why} in {share:.0%}" for why, share in slowed.items())
            clock = ""
            if one.sm_clock_mhz is not None and one.max_sm_clock_mhz:
                clock = f": {one.sm_clock_mhz:.0f} MHz of {one.max_sm_clock_mhz:.0f} in the mean"
            found.append(
                RunWarning(
                    code="gpu-throttled",
                    message=f"the clocks of {one.device} were held back ({reasons} of the looks)"
                    f"{clock}",
                    hint="look to its cooling and power supply; compare only runs that alternate",
                )
            )
    found += [
        RunWarning(
            code="no-telemetry",
            message=f"nothing is known of clocks, power and energy of a device: {trouble}",
            hint="--no-telemetry does without",
        )
        for trouble in dict.fromkeys(troubles)
    ]
    return found
