"""How true an open loop is to its schedule, and what the checks of a run cost."""

from __future__ import annotations

import sys
import time
from itertools import product
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console

import inferload as il
from against_loadgen import NoOp
from inferload.callers.local.floor import NoOpTarget, floor_ms
from inferload.callers.native.executor import NativeExecutor
from inferload.callers.python.executor import ThreadsExecutor
from inferload.cli.progress import Progress
from measuring import Row, alternated, middle_and_range, ratio_row

if TYPE_CHECKING:
    from collections.abc import Callable


def _run(
    model: object, load: il.ClosedLoop | il.OpenLoop, calls: int, **options: Any
) -> il.RunResult:
    with torch.inference_mode():
        return il.run(
            model, [torch.zeros(1)], load=load, calls=calls, threads_per_call=1, **options
        )


def lateness_rows(rounds: int, scale: int) -> list[Row]:
    """Lateness and response of native callers, in microseconds.

    An empty call is the harness alone. TorchScript's interpreter finds its caches cold when a
    caller has slept: what its no-op takes longer is the target's.
    """
    targets = {"empty call": NoOpTarget("nothing"), "TorchScript no-op": torch.jit.script(NoOp())}
    rows = []
    for (kind, model), callers, rate in product(targets.items(), (1, 4), (1_000, 10_000)):
        found: list[tuple[float, float, float]] = []
        for _ in range(rounds):
            load = il.OpenLoop.poisson(rate, callers=callers)
            summary = _run(model, load, max(2 * rate // scale, 1000)).summary
            late, response = summary.lateness_ms, summary.response_ms
            if late is None or response is None:
                raise AssertionError("an open loop has both")
            found.append((late.quantile(0.5), late.quantile(0.99), response.quantile(0.5)))
        reaches = ("<= 1 us", "<= 30 us", "<= 3 us") if callers == 1 else ("<= 3 us", "", "")
        for place, name in enumerate(("lateness p50", "lateness p99", "response p50")):
            middle, low, high = middle_and_range([1e3 * one[place] for one in found])
            rows.append(
                Row(
                    measure=f"native {kind} at {rate:,}/s, callers: {callers}, {name}",
                    ours=f"{middle:.2f} us",
                    reference="",
                    figure=f"{middle:.2f} us",
                    spread=f"{low:.2f}-{high:.2f}",
                    reach=reaches[place],
                )
            )
    return rows


def highest_rate_row(rounds: int, scale: int) -> Row:
    """The highest constant rate at which a native no-op has nothing queued at the end."""
    model = torch.jit.script(NoOp())
    kept_up = []
    for _ in range(max(rounds // 3, 1)):
        rate = 500_000.0
        while _keeps_up(model, rate * 1.1, int(rate / scale)):
            rate *= 1.1
        kept_up.append(rate)
    middle, low, high = middle_and_range(kept_up)
    return Row(
        measure="native no-op, 1 caller, highest rate kept up for 1 s",
        ours=f"{middle:,.0f}/s",
        reference="",
        figure=f"{middle:,.0f}/s",
        spread=f"{low:,.0f}-{high:,.0f}",
        reach=">= 1,000,000/s",
    )


def _keeps_up(model: object, rate: float, calls: int) -> bool:
    """Whether the last percent of calls waits no longer than 1 ms, in one of three tries."""
    for _ in range(3):
        log = _run(model, il.OpenLoop.constant(rate), calls).log
        if float(log.queue_ns[-calls // 100 :].mean()) < 1e6:
            return True
    return False


def checks_row(rounds: int) -> Row:
    """What the floor measurement and everything after the last call take."""

    def timed() -> float:
        began = time.perf_counter()
        result = _run(torch.jit.script(NoOp()), il.ClosedLoop(), 20_000)
        return time.perf_counter() - began - result.summary.duration_s - result.set_up.prepare_s

    def floor() -> float:
        began = time.perf_counter()
        floor_ms(NativeExecutor(), 1)
        floor_ms(ThreadsExecutor(), 1)
        return time.perf_counter() - began

    whole, floors = alternated(rounds, timed, floor)
    middle, low, high = middle_and_range(whole)
    return Row(
        measure="a run of 20,000 no-ops beside preparing and calling: floor, checks, Little's law",
        ours=f"{middle:.3f} s",
        reference="",
        figure=f"{middle:.3f} s (both floors {middle_and_range(floors)[0]:.3f} s)",
        spread=f"{low:.3f}-{high:.3f}",
        reach="<= 0.5 s",
    )


class _Timed(Progress):
    """Adds up the processor time that showing progress takes."""

    taken_s = 0.0

    def progress(self, finished_calls: int, elapsed_s: float) -> None:
        """Show how far the measured part has come."""
        began = time.thread_time()
        super().progress(finished_calls, elapsed_s)
        self.taken_s += time.thread_time() - began


def progress_rows(rounds: int, scale: int) -> list[Row]:
    """Live progress on a terminal: what it takes of a core, and what is left of the throughput."""
    model, calls = torch.jit.script(NoOp()), 8_000_000 // scale
    taken: list[float] = []

    def shown(*, live: bool) -> Callable[[], float]:
        def timed() -> float:
            with open("/dev/null", "w", encoding="utf-8") as sink:  # noqa: PTH123
                progress = _Timed(Console(file=sink, force_terminal=True, width=80), calls, None)
                options = {"observer": progress} if live else {}
                result = _run(model, il.ClosedLoop(), calls, **options)
                progress.close()
            if live:
                taken.append(100 * progress.taken_s / result.summary.duration_s)
            return result.summary.duration_s / calls * 1e9

        return timed

    ratio = ratio_row(
        "native no-op with live progress, against without (time a call)",
        rounds,
        shown(live=True),
        shown(live=False),
        "within 1 %",
    )
    middle, low, high = middle_and_range(taken)
    of_a_core = Row(
        measure="live progress, of the time of one core",
        ours=f"{middle:.2f} %",
        reference="",
        figure=f"{middle:.2f} %",
        spread=f"{low:.2f}-{high:.2f}",
        reach="< 1 %",
    )
    return [ratio, of_a_core]


def open_loop_rows(rounds: int, scale: int) -> list[Row]:
    """Everything here."""
    print("lateness", file=sys.stderr)
    rows = lateness_rows(rounds, scale)
    print("highest rate", file=sys.stderr)
    rows.append(highest_rate_row(rounds, scale))
    return [*rows, checks_row(rounds), *progress_rows(3 * rounds, scale)]
