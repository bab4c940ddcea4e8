"""The callers of a run in this process: model prepared, executor driven, outputs verified."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from inferload import checks
from inferload.crew import Part, PartReport, Preparation
from inferload.disturbances import PythonWatch
from inferload.environment import environment
from inferload.errors import PlanError
from inferload.executors.floor import floor_ms
from inferload.executors.thread_state import ThreadState
from inferload.inputs import described
from inferload.memory import peak_rss_bytes
from inferload.placement import Place, places, usable_cpus
from inferload.plan import Share, executor_for, intra_op_threads, prepared
from inferload.records import RunSpec
from inferload.targets.eager import compiled_graphs
from inferload.trace import check_traceable, tracing
from inferload.units import NS_PER_MS, NS_PER_S
from inferload.verification import reference_outputs, verified

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from typing_extensions import Self

    from inferload.executors.base import Executor, Job, Outcome, Running
    from inferload.inputs import CallInput
    from inferload.records import RunWarning
    from inferload.run_options import RunOptions
    from inferload.targets.base import Target


# Callers are woken so long before an agreed time: of two that wake up on one core, one is moved to
# another only milliseconds later.
AWAKE_NS = 20_000_000


class LocalCrew:
    """Callers in this process, or of this process's share of a run."""

    nursery_pss_bytes: int | None = None

    def __init__(
        self,
        target: Target,
        given: Sequence[CallInput],
        options: RunOptions,
        share: Share | None = None,
        *,
        load_s: float = 0.0,
    ) -> None:
        self._target = target
        self._given = given
        self._options = options
        self._place = Place()
        if share is None and options.pin != "none":
            (self._place,) = places(options.pin, usable_cpus(), 1, options.load.callers)
        self._share = share or Share(schedule=options.schedule(), cpus=self._place.cpus)
        self._load_s = load_s
        self._whole = ExitStack()
        self._measured = ExitStack()
        self._executor: Executor
        self._job: Job
        self._running: Running
        self._watch: PythonWatch
        self._references: list[list[Any]] | str | None = None
        self._graphs = 0
        self._trace_warnings: list[RunWarning] = []
        self.parts: Sequence[Part] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._measured.close()
        self._whole.close()

    def prepare(self, announce: Callable[[str], None]) -> Sequence[Preparation]:
        """Check the inputs, compile, and set the log aside."""
        target, options = self._target, self._options
        announce(f"preparing {target.name}")
        began = time.perf_counter()
        if options.trace is not None:
            check_traceable(options.trace)
        threads = options.threads_per_call or self._place.threads_per_call
        self._whole.enter_context(intra_op_threads(threads))
        self._executor, warnings = executor_for(target, options.executor, announce)
        spec = self._spec()
        self._job = prepared(target, self._given, spec, options, self._share)
        self._whole.callback(self._job.log.close)
        if options.verify:
            self._references = reference_outputs(target, self._given)
        floor = None  # an executor of the caller's own may not know how to do nothing
        if isinstance(options.executor, str):
            floor = floor_ms(self._executor, spec.threads_per_call)
        devices = set(self._job.synchronize)
        warnings += checks.warnings_before(
            replace(
                spec,
                callers=spec.callers * self._share.processes,
                processes=self._share.processes,
            ),
            target.modules(),
            usable_cores=self._share.usable_cores,
            on_device=bool(devices),
        )
        return [
            Preparation(
                pid=os.getpid(),
                spec=spec,
                environment=environment(devices) | {"usable_cores": self._share.usable_cores},
                on_device=bool(devices),
                warnings=tuple(warnings),
                prepare_s=time.perf_counter() - began + self._load_s + target.conversion_s,
                load_s=self._load_s,
                convert_s=target.conversion_s,
                floor_ms=floor,
                log_bytes=self._job.log.reserved_bytes,
            )
        ]

    def _spec(self) -> RunSpec:
        target, options, state = self._target, self._options, ThreadState.of_this_thread()
        load = options.load
        return RunSpec(
            target=target.name,
            form=target.form,
            executor=self._executor.name,
            load=str(load),
            callers=load.callers,
            rate_per_s=getattr(load, "rate_per_s", None),
            drain_s=options.drain_s,
            calls=options.calls,
            duration_s=options.duration_s,
            precision=options.precision,
            quantile=options.quantile,
            time_limit_s=options.time_limit_s,
            warmup=options.warmup or "fixed",
            warmup_calls=options.warmup_calls,
            threads_per_call=torch.get_num_threads(),
            inputs=tuple(described(one) for one in self._given),
            items_per_input=tuple(one.items for one in self._given),
            share_inputs=options.share_inputs,
            seed=options.seed,
            on_error=options.on_error,
            grad_mode=state.grad_mode,
            autocast=state.autocast_mode,
            verify=options.verify,
            pin=options.pin,
            timeout_s=options.timeout_s,
            models=target.shares(),
        )

    def start(self) -> None:
        """Start the callers."""
        job = self._job
        self._measured.enter_context(self._target.while_called(job.callers))
        try:
            self._running = self._executor.start(job)
        except RuntimeError as error:
            raise PlanError(f"{job.callers} callers could not be started: {error}") from error
        self._watch = PythonWatch(python_callers=self._executor.name == "threads")
        self.now_ns = self._running.now_ns
        self.stop = self._running.stop
        self.wait_ready = self._running.wait_ready
        self.wait_done = self._running.wait_done
        self.parts = [
            Part(
                pid=os.getpid(),
                running=self._running,
                log=job.log,
                schedule=job.schedule,
                callers=job.callers,
                inputs=len(self._given),
            )
        ]

    def release(self, at_ns: int | None = None) -> int:
        """Let all callers leave the start line; the time of it, monotonic nanoseconds.

        ``at_ns``: a time to come at which they leave it, where several processes agreed on one.
        """
        self._graphs = compiled_graphs()
        self._trace_warnings = self._measured.enter_context(tracing(self._options.trace))
        self._measured.enter_context(self._watch)
        if at_ns is not None:
            _sleep_until(at_ns - AWAKE_NS)
        return self._running.release(at_ns)

    def collect(self, *, abandoned: bool) -> Sequence[PartReport]:
        """What the callers left behind."""
        if not abandoned:
            self._running.join()
        graphs = compiled_graphs() - self._graphs if self._graphs else 0
        self._measured.close()
        outcome = self._running.outcome()
        verification, by_model = None, []
        if self._references is not None:
            native = self._executor.name == "native"
            verification = verified(self._references, outcome.kept, tensors_only=native)
            for share in self._target.shares():
                own = range(share.first_input, share.first_input + share.inputs)
                kept = [[one for one in caller if one[0] in own] for caller in outcome.kept]
                by_model.append(verified(self._references, kept, tensors_only=native))
        return [
            PartReport(
                outcome=outcome,
                first_call_ms=self._first_call_ms(outcome),
                recompiled_graphs=graphs,
                warnings=(
                    *self._trace_warnings,
                    *self._target.run_warnings(self._job.callers),
                ),
                disturbances=self._watch.found,
                verification=verification,
                # before this process ends, and before anything else is computed in it
                peak_rss_bytes=peak_rss_bytes(Path("/proc/self")) or None,
                verification_by_model=tuple(by_model),
            )
        ]

    def _first_call_ms(self, outcome: Outcome) -> float | None:
        """The target's very first call, where it was made apart or as a warm-up call."""
        if self._target.first_call_ms is not None or not self._options.warmup_calls:
            return self._target.first_call_ms
        firsts = [first[0] for first in outcome.first_calls_ns if first]
        return max(firsts) / NS_PER_MS if firsts else None


def _sleep_until(time_ns: int) -> None:
    """Return at a time, or at once if that has passed."""
    while (left := time_ns - time.perf_counter_ns()) > 0:
        time.sleep(left / NS_PER_S)
