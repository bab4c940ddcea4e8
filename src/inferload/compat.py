"""The drop-in for ``torch.utils.ThroughputBenchmark``: the same calls, texts and figures."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inferload.errors import PlanError
from inferload.plan.arrivals.loads import ClosedLoop
from inferload.plan.numbers import check_count
from inferload.runs import run as bench
from inferload.targets.as_target import as_target
from inferload.targets.inputs.call_input import CallInput
from inferload.targets.kinds.python import ModuleTarget
from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from inferload.records.result import RunResult

_GIL_NOTICE = (
    "Starting benchmark on an nn.Module. This can be slow due to Python GIL: callers take turns "
    "at it. For proper inference simulation export the model (torch.export and AOTInductor), or "
    "run the callers in processes."
)


def format_time(
    time_us: float | None = None, time_ms: float | None = None, time_s: float | None = None
) -> str:
    """Write a time, given in exactly one unit, in us, ms or s with three decimals.

    >>> format_time(time_ms=4.274), format_time(time_us=427.375)
    ('4.274ms', '427.375us')

    Raises:
        AssertionError: none or several were given, as in torch.
    """
    given = [time is not None for time in (time_us, time_ms, time_s)]
    if sum(given) != 1:
        raise AssertionError("Expected only one of time_us, time_ms, time_s is given.")
    time_us = (time_us or 0) + (time_ms or 0) * 1e3 + (time_s or 0) * 1e6
    if time_us >= 1e6:
        return f"{time_us / 1e6:.3f}s"
    if time_us >= 1e3:
        return f"{time_us / 1e3:.3f}ms"
    return f"{time_us:.3f}us"


@dataclass
class BenchmarkConfig:
    """What a benchmark was run with; ``num_worker_threads`` are the intra-op threads of a call."""

    num_calling_threads: int = 1
    num_worker_threads: int = 1
    num_warmup_iters: int = 1
    num_iters: int = 100
    profiler_output_path: str = ""


class ExecutionStats:
    """The figures of ``torch.utils.throughput_benchmark.ExecutionStats``, and the whole result.

    ``latency_avg_ms`` keeps its meaning there: total time x callers / iterations. What callers
    really saw is in ``result.summary.response_ms``.
    """

    def __init__(self, result: RunResult, benchmark_config: BenchmarkConfig) -> None:
        self.result = result
        self.benchmark_config = benchmark_config

    @property
    def num_iters(self) -> int:
        """How many calls were made, over all callers."""
        return len(self.result.log)

    @property
    def total_time_seconds(self) -> float:
        """From the start line to the end of the last call."""
        log = self.result.log
        last_ns = (
            log.finished_ns.max(initial=0) if log.tally is None else log.tally.last_finished_ns
        )
        return float(last_ns) / NS_PER_S

    @property
    def latency_avg_ms(self) -> float:
        """Total time x callers / iterations."""
        return (
            self.total_time_seconds
            * 1e3
            * self.benchmark_config.num_calling_threads
            / self.num_iters
        )

    @property
    def iters_per_second(self) -> float:
        """Return total number of iterations per second across all calling threads."""
        return self.num_iters / self.total_time_seconds

    def __str__(self) -> str:
        return "\n".join(
            [
                "Average latency per example: " + format_time(time_ms=self.latency_avg_ms),
                f"Total number of iterations: {self.num_iters}",
                (
                    "Total number of iterations per second (across all threads): "
                    f"{self.iters_per_second:.2f}"
                ),
                "Total time: " + format_time(time_s=self.total_time_seconds),
            ]
        )


class ThroughputBenchmark:
    """Drop-in for ``torch.utils.ThroughputBenchmark``.

    Takes whatever :func:`inferload.run` takes. The input order is drawn with ``seed``.
    """

    def __init__(self, module: object, *, seed: int = 0) -> None:
        self._target = as_target(module)
        self._inputs: list[CallInput] = []
        self._seed = seed
        self._gil_notice_due = isinstance(self._target, ModuleTarget)

    def run_once(self, *args: Any, **kwargs: Any) -> Any:
        """Call the module once and return its output."""
        return self._target.python_callable()(*args, **kwargs)

    def add_input(self, *args: Any, **kwargs: Any) -> None:
        """Add one input; every call takes one of them at random.

        Raises:
            RuntimeError: the arguments do not fit the schema of a ScriptModule or exported program.
        """
        one = CallInput(args, kwargs)
        try:
            self._target.bind(len(self._inputs), one)
        except PlanError as error:
            raise RuntimeError(str(error)) from error
        self._inputs.append(one)

    def benchmark(
        self,
        num_calling_threads: int = 1,
        num_warmup_iters: int = 10,
        num_iters: int = 100,
        profiler_output_path: str = "",
        *,
        num_worker_threads: int | None = None,
    ) -> ExecutionStats:
        """Run the module from so many threads.

        Args:
            num_calling_threads: callers.
            num_warmup_iters: warm-up calls of each caller, not measured.
            num_iters: calls over all callers, met exactly.
            profiler_output_path: if not empty, a Chrome trace of the measured part is written here.
            num_worker_threads: intra-op threads of each call; torch's present setting if not given.

        Raises:
            RuntimeError: there is no input.
            PlanError: a ``ValueError``; a count is out of range.
            CallError: the module raised; its cause is the exception, its ``result`` the calls done.
        """
        if not self._inputs:
            raise RuntimeError(
                "Please provide benchmark inputs.Did you forget to call add_input()? "
            )
        if num_worker_threads is not None and num_worker_threads < 1:
            raise RuntimeError("Only parallelization by callers is supported")
        check_count("num_iters", num_iters, at_least=1)
        check_count("num_calling_threads", num_calling_threads, at_least=1)
        check_count("num_warmup_iters", num_warmup_iters, at_least=0)
        if self._gil_notice_due:
            self._gil_notice_due = False
            warnings.warn(_GIL_NOTICE, UserWarning, stacklevel=2)
        result = bench.run(
            self._target,
            self._inputs,
            load=ClosedLoop(callers=num_calling_threads),
            calls=num_iters,
            warmup_calls=num_warmup_iters,
            threads_per_call=num_worker_threads,
            seed=self._seed,
            trace=profiler_output_path or None,
        )
        return ExecutionStats(
            result,
            BenchmarkConfig(
                num_calling_threads=num_calling_threads,
                num_worker_threads=num_worker_threads or 1,
                num_warmup_iters=num_warmup_iters,
                num_iters=num_iters,
                profiler_output_path=profiler_output_path,
            ),
        )
