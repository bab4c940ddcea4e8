"""Calls that take a CUDA device far longer than their issue: what is said to be their time."""

from __future__ import annotations

import statistics
import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.throughput_benchmark import ThroughputBenchmark

import inferload as il
from measuring import Row, middle_and_range, to_and_fro

if TYPE_CHECKING:
    from collections.abc import Callable

REST_S = 0.4
DEVICE = "cuda"


def linears(count: int, width: int, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """So many linear layers, one after another."""
    layers = [torch.nn.Linear(width, width) for _ in range(count)]
    return torch.nn.Sequential(*layers).eval().to(DEVICE, dtype)


def device_us(model: Callable[[torch.Tensor], object], x: torch.Tensor, calls: int) -> float:
    """The median time that the device takes for a call, by events around each, one at a time."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    found = []
    with torch.inference_mode():
        for _ in range(calls + 10):
            begin.record()
            model(x)
            end.record()
            end.synchronize()
            found.append(begin.elapsed_time(end))
    return 1e3 * float(statistics.median(found[10:]))


def left_ms() -> float:
    """How long the device still works: waiting for it, less waiting for a device that is idle."""
    began = time.perf_counter()
    torch.cuda.synchronize()
    idle = time.perf_counter()
    torch.cuda.synchronize()
    return 1e3 * (2 * idle - began - time.perf_counter())


def rested(function: Callable[[], float]) -> Callable[[], float]:
    """The function after a pause, so that the device is as cool and its clock as high each time."""

    def run() -> float:
        torch.cuda.synchronize()
        time.sleep(REST_S)
        return function()

    return run


def long_call_rows(rounds: int, scale: int) -> list[Row]:
    """Calls that take the device far longer than their issue: what is said to be their time."""
    eager = linears(8, 8192, torch.bfloat16)
    script = torch.jit.script(eager)
    x = torch.randn(512, 8192, device=DEVICE, dtype=torch.bfloat16)
    rows = []
    for calls in (10, 30, 100) if scale == 1 else (10,):
        within: list[float] = []
        tails: dict[str, list[float]] = {"ours": [], "reference": []}

        def service_us(
            calls: int = calls,
            tails: dict[str, list[float]] = tails,
            within: list[float] = within,
        ) -> float:
            result = il.run(script, [x], calls=calls, telemetry=False)
            tails["ours"].append(left_ms())
            log = result.log
            within.append(float(np.median(log.service_ns) / np.median(log.stages["device_ns"])))
            return float(np.median(log.service_ns)) / 1e3

        def reported_us(calls: int = calls, tails: dict[str, list[float]] = tails) -> float:
            bench = ThroughputBenchmark(script)
            bench.add_input(x)
            stats = bench.benchmark(num_iters=calls)
            tails["reference"].append(left_ms())
            return 1e3 * float(stats.latency_avg_ms)

        mine, its, true = to_and_fro(
            rounds,
            rested(service_us),
            rested(reported_us),
            rested(partial(device_us, script, x, calls)),
        )
        name = f"8 x Linear(8192) bf16, batch 512, {calls} calls"
        for what, found, reach in (
            ("median service", mine, "within 3 %"),
            ("the reference's latency", its, "-"),
        ):
            ratios = [a / b for a, b in zip(found, true, strict=True)]
            rows.append(
                Row(
                    measure=f"{name}: {what}, against a loop timed by events",
                    ours=f"{statistics.median(found):,.0f} us",
                    reference=f"{statistics.median(true):,.0f} us",
                    figure=f"{statistics.median(ratios):.3f}x",
                    spread=f"{min(ratios):.3f}-{max(ratios):.3f}",
                    reach=reach,
                )
            )
        middle, low, high = middle_and_range(within)
        rows.append(
            Row(
                measure=f"{name}: median service, against events around the same calls",
                ours=f"{statistics.median(mine):,.0f} us",
                reference="-",
                figure=f"{middle:.3f}x",
                spread=f"{low:.3f}-{high:.3f}",
                reach="within 3 %",
            )
        )
        rows.append(
            Row(
                measure=f"{name}: device still at work when the run has returned",
                ours=f"{max(tails['ours']):.3f} ms",
                reference=f"{statistics.median(tails['reference']):.1f} ms",
                figure=f"{max(tails['ours']):.3f} ms",
                spread=f"{min(tails['ours']):.3f}-{max(tails['ours']):.3f}",
                reach="<= 0.1 ms",
            )
        )
    return rows
