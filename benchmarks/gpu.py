"""inferload on a CUDA device against ``torch.utils.ThroughputBenchmark`` and the device's own time.

One command: ``python benchmarks/gpu.py --markdown docs/benchmarks.md``, on an otherwise idle GPU.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
from torch.utils.throughput_benchmark import ThroughputBenchmark

import inferload as il
from gpu_long_calls import DEVICE, linears, long_call_rows
from gpu_python import python_rows
from inferload.callers.device_work import DeviceWork
from inferload.callers.local import called as plan
from inferload.machine.hardware import cpu_model, usable_cores
from inferload.targets.forms import as_form
from measuring import (
    GPU_HEADING,
    Row,
    alternated,
    middle_and_range,
    print_rows,
    rates_row,
    to_and_fro,
)

if TYPE_CHECKING:
    from collections.abc import Callable

CALLERS = 16


def ours(model: object, x: torch.Tensor, calls: int, callers: int = CALLERS, **how: Any) -> float:
    """Calls per second, as the summary has it."""
    load = il.ClosedLoop(callers=callers)
    how = {"telemetry": False, "warmup_calls": 20} | how
    result = il.run(model, [x], load=load, calls=calls, **how)
    return float(result.summary.throughput_calls_per_s.value)


def reference(model: Any, x: torch.Tensor, calls: int, callers: int = CALLERS) -> float:
    """Calls per second, as the reference reports it."""
    bench = ThroughputBenchmark(model)
    bench.add_input(x)
    stats = bench.benchmark(num_calling_threads=callers, num_warmup_iters=20, num_iters=calls)
    torch.cuda.synchronize()
    return float(stats.iters_per_second)


def script_rows(rounds: int, scale: int) -> list[Row]:
    """ScriptModules from 16 callers: a stream each, one stream, graphs, Python."""
    rows = []
    for count, width, batch, calls, reach in (
        (8, 2048, 8, 4000 // scale, ">= 2.7x"),
        (4, 256, 1, 10_000 // scale, ">= 2.2x"),
    ):
        eager = linears(count, width)
        x = torch.randn(batch, width, device=DEVICE)
        script, graph = torch.jit.script(eager), as_form(eager, "cudagraph", [])
        mine, twice, shared, graphs, python, its = alternated(
            rounds,
            partial(ours, script, x, calls),
            partial(ours, script, x, calls, 2 * CALLERS),
            partial(ours, script, x, calls, streams="shared"),
            partial(ours, graph, x, calls),
            partial(ours, eager, x, calls // 2, executor="threads"),
            partial(reference, script, x, calls),
        )
        name = f"{count} x Linear({width}), batch {batch}, {CALLERS} callers"
        rows += [
            rates_row(f"{name}: ScriptModule against the reference", mine, its, reach),
            rates_row(
                f"{name}: CUDA graphs against the reference",
                graphs,
                its,
                ">= 4x" if width == 256 else "-",
            ),
            rates_row(f"{name}: ScriptModule, one shared stream", shared, its, "-"),
            rates_row(f"{name}: ScriptModule from twice as many callers", twice, its, "-"),
            rates_row(f"{name}: eager, Python callers", python, its, "-"),
        ]
    return rows


def aoti_rows(rounds: int, scale: int) -> list[Row]:
    """AOTInductor packages from 16 callers: a runner and a stream each."""
    rows = []
    for count, width, batch, calls, reach in (
        (4, 256, 1, 10_000 // scale, ">= 5.5x"),
        (8, 2048, 8, 4000 // scale, ">= 3.0x"),
    ):
        x = torch.randn(batch, width, device=DEVICE)
        package = as_form(linears(count, width), "aoti", [il.CallInput((x,))])
        mine, python, its = alternated(
            rounds,
            partial(ours, package, x, calls),
            partial(ours, package, x, calls // 2, executor="threads"),
            partial(reference, package.python_callable(), x, calls // 2),
        )
        name = f"{count} x Linear({width}), batch {batch}, {CALLERS} callers"
        rows += [
            rates_row(f"{name}: AOTInductor against the reference", mine, its, reach),
            rates_row(f"{name}: AOTInductor, Python callers", python, its, "-"),
        ]
    return rows


def stage_rows(rounds: int, scale: int) -> list[Row]:
    """Issue and wait against service; what timing the stages costs."""
    eager = linears(4, 256)
    script, x = torch.jit.script(eager), torch.randn(1, 256, device=DEVICE)
    rows, shares = [], []
    for transfers in (False, True):
        result = il.run(
            script,
            [x],
            load=il.ClosedLoop(callers=CALLERS),
            calls=10_000 // scale,
            transfers=transfers,
            telemetry=False,
        )
        log = result.log
        shares += ((log.stages["issue_ns"] + log.wait_ns) / log.service_ns).tolist()
    middle, low, high = middle_and_range(shares)
    rows.append(
        Row(
            measure=f"4 x Linear(256), batch 1, {CALLERS} callers: issue + wait, of service",
            ours=f"{middle:.4f}",
            reference="-",
            figure=f"{middle:.4f}x",
            spread=f"{low:.4f}-{high:.4f}",
            reach="within 2 %",
        )
    )
    big, wide = linears(8, 8192, torch.bfloat16), torch.randn(512, 8192, device=DEVICE)
    wide = wide.to(torch.bfloat16)
    result = il.run(big, [wide], calls=200 // scale, transfers=True, telemetry=False)
    stages, log = result.summary.stages, result.log
    if stages is None or stages.device_ms is None:
        raise RuntimeError("there are no stages")
    known = log.stages["device_ns"] >= 0
    parts = sum(log.stages[name] for name in ("copy_in_ns", "device_ns", "copy_out_ns"))
    middle, low, high = middle_and_range((parts / log.service_ns)[known].tolist())
    rows.append(
        Row(
            measure="8 x Linear(8192) bf16, batch 512: copy in + device + copy out by events, of "
            "service by the clock",
            ours=f"{middle:.4f}",
            reference="-",
            figure=f"{middle:.4f}x",
            spread=f"{low:.4f}-{high:.4f}",
            reach="within 2 %",
        )
    )
    calls = 10_000 // scale

    def untimed() -> float:
        with mock.patch.object(plan, "DeviceWork", partial(DeviceWork, timed=False)):
            return ours(script, x, calls)

    timed, bare = alternated(rounds, partial(ours, script, x, calls), untimed)
    rows.append(
        rates_row(
            f"4 x Linear(256), batch 1, {CALLERS} callers: stages timed against not",
            timed,
            bare,
            "-",
        )
    )
    return rows


def telemetry_rows(rounds: int, scale: int) -> list[Row]:
    """Throughput with and without looking at the GPU."""
    rows = []
    for count, width, batch, calls in ((8, 2048, 8, 14_000), (4, 256, 1, 60_000)):
        script = torch.jit.script(linears(count, width))
        x = torch.randn(batch, width, device=DEVICE)
        on, off = to_and_fro(
            rounds,
            partial(ours, script, x, calls // scale, telemetry=True),
            partial(ours, script, x, calls // scale, telemetry=False),
        )
        name = f"{count} x Linear({width}), batch {batch}, {CALLERS} callers"
        rows.append(rates_row(f"{name}: telemetry on against off", on, off, "within 1 %"))
    return rows


def ours_and_cpu(
    model: object, x: torch.Tensor, calls: int, callers: int, completion: str
) -> tuple[float, float]:
    """Calls per second, and the processor time a call, in microseconds, from the start line on."""
    result = il.run(
        model,
        [x],
        load=il.ClosedLoop(callers=callers),
        calls=calls,
        telemetry=False,
        warmup_calls=20,
        completion=completion,
    )
    used = result.processes[0].cpu
    cpu_s = 0.0 if used is None else used.cpu_s[-1]
    return float(result.summary.throughput_calls_per_s.value), 1e6 * cpu_s / calls


def completion_rows(rounds: int, scale: int) -> list[Row]:
    """Waiting for an event, asleep, against spinning on the stream: calls, and processor time."""
    small, x = linears(4, 256), torch.randn(1, 256, device=DEVICE)
    large, wide = linears(8, 2048), torch.randn(8, 2048, device=DEVICE)
    script, wider = torch.jit.script(small), torch.jit.script(large)
    graphs = as_form(small, "cudagraph", [])
    cases = (
        ("4 x Linear(256), batch 1, ScriptModule", script, x, (1, 16, 64), 20_000),
        ("4 x Linear(256), batch 1, CUDA graphs", graphs, x, (16,), 60_000),
        ("4 x Linear(256), batch 1, eager", small, x, (16,), 4_000),
        ("8 x Linear(2048), batch 8, ScriptModule", wider, wide, (16, 64), 10_000),
    )
    rows = []
    for what, model, given, counts, calls in cases:
        for callers in counts:
            how = {"callers": callers, "calls": calls // scale}
            event, sync = to_and_fro(
                rounds,
                partial(ours_and_cpu, model, given, completion="event", **how),
                partial(ours_and_cpu, model, given, completion="sync", **how),
            )
            name = f"{what}, {callers} callers: event against sync"
            rows.append(rates_row(name, [a for a, _ in event], [a for a, _ in sync], "-"))
            ratios = [a / b for (_, a), (_, b) in zip(event, sync, strict=True)]
            rows.append(
                Row(
                    measure=f"{name}, processor time a call",
                    ours=f"{statistics.median(a for _, a in event):,.0f} us",
                    reference=f"{statistics.median(a for _, a in sync):,.0f} us",
                    figure=f"{statistics.median(ratios):.2f}x",
                    spread=f"{min(ratios):.2f}-{max(ratios):.2f}",
                    reach="-",
                )
            )
    return rows


def batch_rows(rounds: int, scale: int) -> list[Row]:
    """What larger batches bring: items per second and energy an item, against batch 1."""
    script = torch.jit.script(linears(8, 2048))
    x = torch.randn(64, 2048, device=DEVICE)
    rows, first = [], None
    for size in (1, 8, 64):
        result = il.run(
            script,
            [x],
            batch_size=size,
            load=il.ClosedLoop(callers=CALLERS),
            duration_s=3.0 / scale,
        )
        items = result.summary.throughput_items_per_s.value
        joules = result.devices[0].energy_per_item_j
        first = first or (items, joules)
        energy = "-" if joules is None else f"{1e3 * joules:.3g} mJ an item"
        rows.append(
            Row(
                measure=f"8 x Linear(2048), ScriptModule, {CALLERS} callers, batch {size}: items/s",
                ours=f"{items:,.0f}/s, {energy}",
                reference=f"batch 1: {first[0]:,.0f}/s",
                figure=f"{items / first[0]:.1f}x",
                spread="one run of 3 s",
                reach="-",
            )
        )
    del rounds
    return rows


PARTS: dict[str, Callable[[int, int], list[Row]]] = {
    "script": script_rows,
    "aoti": aoti_rows,
    "long": long_call_rows,
    "stages": stage_rows,
    "telemetry": telemetry_rows,
    "batches": batch_rows,
    "completion": completion_rows,
    "python": python_rows,
}


def section(rows: list[Row], rounds: int) -> str:
    """What is written below the heading."""
    table = [
        f"| {r.measure} | {r.ours} | {r.reference} | {r.figure} | {r.spread} "
        f"| {r.reach} | {r.met} |"
        for r in rows
    ]
    driver = torch.version.cuda
    return f"""{GPU_HEADING}

Written by `python benchmarks/gpu.py --markdown docs/benchmarks.md`: {rounds} alternating rounds,
medians, and the median ratio of the rounds with its range.

Machine: {torch.cuda.get_device_name()}, CUDA {driver}, torch {torch.__version__}, {cpu_model()},
{usable_cores():g} cores, Python {platform.python_version()}.

| measure | inferload | other | figure | range | reach | met |
|---|---|---|---|---|---|---|
{chr(10).join(table)}
"""


def main() -> None:
    """Measure and print everything."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--quick", action="store_true", help="one short round of everything")
    options.add_argument("--only", help=", ".join(PARTS))
    options.add_argument("--markdown", type=Path, help="write the table into this file too")
    chosen = options.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("this benchmark needs a CUDA device, and torch sees none here")
    warnings.filterwarnings("ignore", message=".*torch.jit.*deprecated.*")
    rounds, scale = (1, 10) if chosen.quick else (chosen.rounds, 1)
    rows: list[Row] = []
    with torch.inference_mode():
        for name, part in PARTS.items():
            if chosen.only is None or name in chosen.only.split(","):
                rows += part(rounds, scale)
                if chosen.markdown:  # part by part: what is measured is not lost with the machine
                    write(chosen.markdown, rows, rounds)
    print_rows(rows, rounds)


def write(path: Path, rows: list[Row], rounds: int) -> None:
    """Put the section into a page, behind what is there."""
    before = ""
    if path.is_file():
        before = path.read_text(encoding="utf-8").split(GPU_HEADING)[0].rstrip() + "\n\n"
    path.write_text(before + section(rows, rounds), encoding="utf-8")


if __name__ == "__main__":
    main()
