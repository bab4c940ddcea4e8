"""The charts of what a run took: cores, memory and devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from inferload.report.charts.chart import Chart
from inferload.report.charts.drawing import COLOURS, line
from inferload.units import rate_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.records.result import RunResult


def cores_chart(result: RunResult) -> Chart | None:
    """How many cores the processes kept busy."""
    uses = [(one.process, one.cpu) for one in result.processes if one.cpu is not None]
    uses = [(process, cpu) for process, cpu in uses if len(cpu.times_s) > 2]
    if not uses:
        return None
    data: list[dict[str, Any]] = []
    columns: dict[str, Sequence[Any]] = {}
    means: list[float] = []
    for number, (process, cpu) in enumerate(uses[: len(COLOURS)]):
        times, busy = np.array(cpu.times_s), np.diff(cpu.cpu_s) / np.diff(cpu.times_s)
        means.append(cpu.cpu_s[-1] / max(cpu.times_s[-1] - cpu.times_s[0], 1e-9))
        data.append(line(f"process {process}", times, [*busy, busy[-1]], COLOURS[number],
                         line={"shape": "hv"}, hovertemplate="%{y:.2f}"))  # fmt: skip
        columns |= {f"process {process}, s": times[:-1].tolist()}
        columns |= {f"process {process}, cores": busy.tolist()}
    cores = result.environment.get("usable_cores")
    return Chart(
        name="cores", title="Cores in use",
        says=f"{' and '.join(f'{mean:.2f}' for mean in means)} cores in the mean"
        + _first(len(means), len(uses))
        + (f", of {cores:g} that may be used." if isinstance(cores, int | float) else "."),
        how="Time on cores of all threads of a process between two looks (user and kernel, "
        "proc(5)), which the system counts in steps of 10 ms.",
        data=data,
        layout={"xaxis": {"title": {"text": "time since the start line, s"}},
                "yaxis": {"title": {"text": "cores"}, "rangemode": "tozero"}},
        columns=columns, height=260,
    )  # fmt: skip


def memory_chart(result: RunResult) -> Chart | None:
    """What the processes held of memory."""
    uses = [(one.process, one.memory) for one in result.processes if one.memory is not None]
    uses = [(process, memory) for process, memory in uses if len(memory.times_s) > 2]
    if not uses:
        return None
    data: list[dict[str, Any]] = []
    for number, (process, memory) in enumerate(uses[: len(COLOURS) // 2]):
        colour = COLOURS[number]
        data.append(line(f"RSS of process {process}", memory.times_s,
                         np.array(memory.rss_bytes) / 2**20, colour))  # fmt: skip
        if memory.pss_bytes:
            data.append(line(f"PSS of process {process}", memory.pss_times_s,
                             np.array(memory.pss_bytes) / 2**20, colour,
                             line={"dash": "dash"}, mode="lines+markers"))  # fmt: skip
    for one in data:
        one["hovertemplate"] = "%{y:.5g} MiB"
    peak = max(memory.peak_rss_bytes for _, memory in uses) / 2**20
    return Chart(
        name="memory", title="Memory",
        says=f"At most {peak:,.1f} MiB resident in a process"
        f"{_first(len(COLOURS) // 2, len(uses))}.",
        how="Resident set size (RSS), and proportional set size (PSS), in which pages that several "
        "processes share count in part (proc(5)).",
        data=data,
        layout={"xaxis": {"title": {"text": "time since the start line, s"}},
                "yaxis": {"title": {"text": "MiB"}, "rangemode": "tozero"}},
        columns={
            name: column
            for process, one in uses[: len(COLOURS) // 2]
            for name, column in (
                (f"process {process}, s", list(one.times_s)),
                (f"process {process}, RSS MiB", [b / 2**20 for b in one.rss_bytes]),
            )
        },
        height=260,
    )  # fmt: skip


def _first(shown: int, there: int) -> str:
    return f" (the first {shown} of {there} processes are drawn)" if there > shown else ""


def device_charts(result: RunResult) -> list[Chart]:
    """What the driver said of each GPU along the run."""
    charts = []
    for number, one in enumerate(result.devices):
        samples = one.samples
        if samples is None or len(samples.times_s) < 3:
            continue
        columns = {
            "busy %": [None if u is None else 100 * u for u in samples.utilization_fraction],
            "power W": samples.power_w,
            "clock MHz": samples.sm_clock_mhz,
            "memory GiB": [None if b is None else b / 2**30 for b in samples.used_memory_bytes],
        }
        known = {name: v for name, v in columns.items() if any(x is not None for x in v)}
        data: list[dict[str, Any]] = []
        layout: dict[str, Any] = {"xaxis": {"title": {"text": "time since the start line, s"}}}
        height = 1 / max(len(known), 1)
        for place, (name, values) in enumerate(known.items()):
            axis = "" if place == 0 else str(place + 1)
            data.append(line(name, samples.times_s, values, COLOURS[place],
                             yaxis=f"y{axis}", hovertemplate="%{y:.4g}"))  # fmt: skip
            layout[f"yaxis{axis}"] = {
                "title": {"text": name}, "rangemode": "tozero",
                "domain": [1 - (place + 0.85) * height, 1 - place * height],
            }  # fmt: skip
        layout["xaxis"]["anchor"] = "y" + ("" if len(known) < 2 else str(len(known)))
        charts.append(
            Chart(
                name=f"device-{number}", title=f"{one.device}, {one.name}",
                says=f"{', '.join(known)} of {one.device}: {rate_text(one.throughput_calls_per_s)} "
                f"{result.spec.unit}s/s.",
                how="As the driver (NVML) says, of the whole device, whoever uses it.",
                data=data, layout={**layout, "showlegend": False}, height=120 * len(known) + 60,
                columns={"time s": list(samples.times_s), **known},
            )
        )  # fmt: skip
    return charts
