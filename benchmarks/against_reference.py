"""inferload against ``torch.utils.ThroughputBenchmark``: no-op calls and a real model."""

from __future__ import annotations

import os
import statistics
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.throughput_benchmark import ThroughputBenchmark

import inferload as il
from inferload.callers.native.build import native_extension
from inferload.targets.forms import as_form
from inferload.targets.inputs.given import as_call_inputs
from inferload.targets.kinds.script import ScriptTarget
from measuring import Row, alternated, ratio_row

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).parents[1] / "examples"


class NoOp(torch.nn.Module):
    """Returns what it is given."""

    def forward(self, x):  # noqa: ANN001, ANN201
        """Give ``x`` back."""
        return x


class AnnotatedNoOp(torch.nn.Module):
    """The same with types: as a ScriptModule, the reference skips a type check of each call."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give ``x`` back."""
        return x


def ns_per_call_ours(model: object, x: torch.Tensor, callers: int, calls: int) -> float:
    """Time per call over all callers, as the summary has it."""
    result = il.run(model, [x], load=il.ClosedLoop(callers=callers), calls=calls)
    return 1e9 / result.summary.throughput_calls_per_s.value


def ns_per_call_reference(model: object, x: torch.Tensor, callers: int, calls: int) -> float:
    """Time per call over all callers, as the reference has it."""
    bench = ThroughputBenchmark(model)
    bench.add_input(x)
    stats = bench.benchmark(num_calling_threads=callers, num_iters=calls)
    return 1e9 * float(stats.total_time_seconds) / calls


def bare_model(script: Any, x: torch.Tensor) -> Any:
    """What makes native calls of one caller, in a loop that does nothing else."""
    target = ScriptTarget(script)
    return target.native_callable(native_extension(), [[il.CallInput((x.clone(),))]])


def ns_per_call_bare(script: Any, x: torch.Tensor, callers: int, calls: int) -> float:
    """Time per call over all of as many threads that only call, without the GIL."""
    line, each = threading.Barrier(callers), []

    def call_all() -> None:
        own = bare_model(script, x)
        line.wait()
        each.append(own.bare_loop_ns(calls // callers))

    threads = [threading.Thread(target=call_all) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return float(statistics.mean(each)) / callers


@contextmanager
def one_core() -> Iterator[None]:
    """Have both sides on the same core: another one may have a neighbour at work, for a while."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def ns_per_call_by_hand(model: Any, x: torch.Tensor, callers: int, calls: int) -> float:
    """Time per call over all of as many threads, each of which makes calls and nothing else."""
    line, spans = threading.Barrier(callers), []
    own = [partial(model, x)] * (calls // callers)

    def call_all() -> None:
        line.wait()
        started = time.perf_counter_ns()
        for call in own:
            call()
        spans.append((started, time.perf_counter_ns()))

    threads = [threading.Thread(target=call_all) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = max(end for _, end in spans) - min(begin for begin, _ in spans)
    return took / (len(own) * callers)


def no_op_rows(rounds: int, scale: int) -> list[Row]:
    """No-op TorchScript and eager modules at 1, 2 and 4 callers."""
    x, eager = torch.zeros(1), NoOp().eval()
    script = torch.jit.script(eager)
    # short runs, so that both sides of a round mostly meet the machine in the same state
    calls = 50_000 // scale
    rows = []
    for callers, reach in ((1, "<= 0.27x"), (2, "<= 0.33x"), (4, "<= 0.36x")):
        rows.append(
            ratio_row(
                f"no-op ScriptModule, native, {callers} callers, time a call",
                rounds,
                partial(ns_per_call_ours, script, x, callers, calls),
                partial(ns_per_call_reference, script, x, callers, calls),
                reach,
            )
        )
    annotated = torch.jit.script(AnnotatedNoOp().eval())
    rows.append(
        ratio_row(
            "the same, 1 caller, forward's argument annotated as a Tensor",
            rounds,
            partial(ns_per_call_ours, annotated, x, 1, calls),
            partial(ns_per_call_reference, annotated, x, 1, calls),
            "-",
        )
    )
    rows += [
        ratio_row(
            f"the least: bare C++ loops in {callers} threads, time a call",
            rounds,
            partial(ns_per_call_bare, script, x, callers, calls),
            partial(ns_per_call_reference, script, x, callers, calls),
            "-",
        )
        for callers in (1, 2, 4)
    ]
    model = bare_model(script, x)
    with one_core():
        ours, bare = alternated(
            rounds,
            lambda: ns_per_call_ours(script, x, 1, calls),
            lambda: model.bare_loop_ns(calls),
        )
    rows.append(_over("the same, 1 caller, against a bare C++ loop", ours, bare, "<= +30 ns"))
    for callers in (1, 2, 4):
        ours, bare = alternated(
            rounds,
            partial(ns_per_call_ours, eager, x, callers, calls),
            partial(ns_per_call_by_hand, eager, x, callers, calls),
        )
        name = f"no-op nn.Module, {callers} Python callers, against for call in calls: call()"
        rows.append(_over(name, ours, bare, "<= +150 ns"))
    return rows


def _over(measure: str, ours: list[float], bare: list[float], reach: str) -> Row:
    more = [a - b for a, b in zip(ours, bare, strict=True)]
    return Row(
        measure=measure,
        ours=f"{statistics.median(ours):,.0f} ns",
        reference=f"{statistics.median(bare):,.0f} ns",
        figure=f"{statistics.median(more):+.0f} ns",
        spread=f"{min(more):.0f}-{max(more):.0f}",
        reach=reach,
    )


def minilm_rows(rounds: int, scale: int) -> list[Row]:
    """A real model as an AOTInductor package, 4 callers: native, Python callers, reference."""
    sys.path.insert(0, str(EXAMPLES))
    import minilm

    inputs = as_call_inputs(minilm.inputs())
    package = as_form(minilm.model(), "aoti", inputs)
    calls = 200 // scale

    def ours(executor: str) -> float:
        result = il.run(
            package, inputs, load=il.ClosedLoop(callers=4), calls=calls, executor=executor
        )
        return result.summary.throughput_calls_per_s.value

    def reference() -> float:
        bench = ThroughputBenchmark(package.python_callable())
        for one in inputs:
            bench.add_input(*one.args, **one.kwargs)
        stats = bench.benchmark(num_calling_threads=4, num_iters=calls)
        return float(stats.iters_per_second)

    torch.set_num_threads(1)
    native, python, its = alternated(
        rounds, lambda: ours("native"), lambda: ours("threads"), reference
    )
    rows = []
    for name, other in (("reference", its), ("Python callers", python)):
        ratios = [a / b for a, b in zip(native, other, strict=True)]
        rows.append(
            Row(
                measure=f"MiniLM AOTInductor, 4 callers, calls/s against {name}",
                ours=f"{statistics.median(native):.1f}/s",
                reference=f"{statistics.median(other):.1f}/s",
                figure=f"{statistics.median(ratios):.2f}x",
                spread=f"{min(ratios):.2f}-{max(ratios):.2f}",
                reach=">= 2.0x",
            )
        )
    return rows
