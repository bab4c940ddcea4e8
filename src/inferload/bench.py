"""One run: prepare, execute, summarize."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from inferload import checks, stats
from inferload.environment import environment, usable_cores
from inferload.errors import CallError, RunInterrupted
from inferload.execution import Execution, Observer, execute
from inferload.executors.base import exception_text
from inferload.executors.floor import floor_ms
from inferload.executors.thread_state import ThreadState
from inferload.inputs import as_call_inputs, described
from inferload.loads import ClosedLoop
from inferload.plan import (
    DEFAULT_TIME_LIMIT_S,
    check_options,
    executor_for,
    intra_op_threads,
    prepared,
)
from inferload.records import RunResult, RunSpec, RunWarning, SetUp
from inferload.signals import StopSignals
from inferload.stopping import StopByPrecision
from inferload.targets.load import as_target
from inferload.trace import check_traceable
from inferload.units import NS_PER_MS, NS_PER_S
from inferload.verification import reference_outputs, verified

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from inferload.executors.base import Executor, Job
    from inferload.loads import OpenLoop
    from inferload.records import Verification
    from inferload.targets.base import Target

# Summarizing so many takes a noticeable while.
MANY_CALLS = 1_000_000


class _Logging:
    def stage(self, text: str) -> None:
        # A build takes half a minute: it is said even where nobody set logging up.
        level = logging.WARNING if "compiling" in text else logging.INFO
        logging.getLogger("inferload").log(level, text)

    def progress(self, finished_calls: int, elapsed_s: float) -> None:
        pass


def run(
    model: object,
    inputs: object,
    *,
    load: ClosedLoop | OpenLoop | None = None,
    calls: int | None = None,
    duration_s: float | None = None,
    precision: float | None = None,
    quantile: str = "p99",
    time_limit_s: float | None = None,
    warmup: str | None = None,
    warmup_calls: int = 10,
    executor: str | Executor = "auto",
    threads_per_call: int | None = None,
    seed: int = 0,
    on_error: str = "stop",
    share_inputs: bool = False,
    verify: bool = False,
    trace: str | os.PathLike[str] | None = None,
    observer: Observer | None = None,
) -> RunResult:
    """Call a model from many callers at once and record every call.

    Args:
        model: ``nn.Module``, ``ScriptModule``, ``ExportedProgram``, path to a ``.pt`` or
            ``.pt2``, any callable, or a ``Target``.
        inputs: a sequence of ``CallInput``, tensor (one positional argument), tuple (args) or
            dict (kwargs); each call takes one of them, drawn with ``seed``.
        load: ``ClosedLoop(callers=...)`` or an ``OpenLoop``; one caller in a closed loop if not
            given.
        calls: calls in all, over all callers, met exactly. If no end is given, 1,000; a replay
            then goes to its end.
        duration_s: seconds to go on starting calls, or (open loop) in which calls are due; those
            in flight then are finished.
        precision: go on until half of the interval of ``quantile`` of the response time and of
            throughput is within this fraction of its value.
        quantile: ``"p50"``, ``"p90"``, ``"p95"``, ``"p99"``, ``"p999"`` or ``"p9999"``.
        time_limit_s: ends a run by precision all the same; 60 s if not given.
        warmup: ``"auto"`` cuts off what comes before the steady state, which the log still has;
            ``"fixed"`` does not. By default auto where ``duration_s`` or ``precision`` is given.
        warmup_calls: calls each caller makes before the start line, not logged.
        executor: ``"threads"``, ``"native"`` (TorchScript, AOTInductor), or ``"auto"``: native
            where the target and the machine allow it; or an ``Executor``.
        threads_per_call: intra-op threads of each call; torch's present setting if not given.
        seed: draws the order of inputs.
        on_error: ``"stop"`` ends the run at the first exception; ``"record"`` logs it and goes on.
        share_inputs: let callers share the tensors given, where each else has copies.
        verify: compare outputs under load with outputs computed alone, by ``torch.testing``'s
            tolerances.
        trace: write a Chrome trace of the measured part to this path.
        observer: is told of stages and progress.

    The thread-local state of the calling thread (grad and inference mode, autocast, dispatch keys)
    holds in the callers as well.

    Raises:
        PlanError: the run was refused before any caller started.
        NativeBuildError: native callers were asked for by name and cannot be had.
        CallError: the target raised and ``on_error`` is ``"stop"``; its ``result`` is partial.
        RunInterrupted: Ctrl-C or SIGTERM; its ``result`` is partial.
    """
    load = load or ClosedLoop()
    observer = observer or _Logging()
    trace_path = None if trace is None else Path(trace)
    if calls is None and duration_s is None and precision is None:
        calls = None if getattr(load, "times_s", None) is not None else 1000
    if precision is not None and time_limit_s is None:
        time_limit_s = DEFAULT_TIME_LIMIT_S
    check_options(
        load=load,
        calls=calls,
        duration_s=duration_s,
        precision=precision,
        quantile=quantile,
        time_limit_s=time_limit_s,
        warmup=warmup,
        warmup_calls=warmup_calls,
        executor=executor,
        threads_per_call=threads_per_call,
        on_error=on_error,
        seed=seed,
    )
    if trace_path is not None:
        check_traceable(trace_path)
    target = as_target(model)
    given = as_call_inputs(inputs)

    observer.stage(f"preparing {target.name}")
    with ExitStack() as stack:
        stack.enter_context(intra_op_threads(threads_per_call))
        prepare_started = time.perf_counter()
        chosen, warnings = executor_for(target, executor, observer.stage)
        state = ThreadState.of_this_thread()
        spec = RunSpec(
            target=target.name,
            form=target.form,
            executor=chosen.name,
            load=str(load),
            callers=load.callers,
            rate_per_s=None if isinstance(load, ClosedLoop) else load.rate_per_s,
            drain_s=None if isinstance(load, ClosedLoop) else load.drain_s,
            calls=calls,
            duration_s=duration_s,
            precision=precision,
            quantile=quantile,
            time_limit_s=time_limit_s,
            warmup=warmup or ("auto" if duration_s or precision else "fixed"),
            warmup_calls=warmup_calls,
            threads_per_call=torch.get_num_threads(),
            inputs=tuple(described(one) for one in given),
            items_per_input=tuple(one.items for one in given),
            share_inputs=share_inputs,
            seed=seed,
            on_error=on_error,
            grad_mode=state.grad_mode,
            autocast=state.autocast_mode,
            verify=verify,
        )
        job, log_file = prepared(target, given, spec, load)
        stack.callback(log_file.close)
        references = reference_outputs(target, given) if verify else None
        floor = None  # an executor of the caller's own may not know how to do nothing
        if isinstance(executor, str):
            floor = floor_ms(chosen, spec.threads_per_call)
        rule = None
        if precision is not None:
            rule = StopByPrecision(precision, quantile, cut=spec.warmup == "auto")
        prepare_s = time.perf_counter() - prepare_started + target.conversion_s
        signals = stack.enter_context(StopSignals())
        with target.while_called(load.callers):
            done = execute(chosen, job, observer, trace_path, signals, rule)
        if done.log.calls_made > MANY_CALLS:
            observer.stage(f"summarizing {done.log.calls_made:,} calls")
        # a signal that comes from here on does not lose what was measured
        result = _result(
            target,
            spec,
            job,
            done,
            warnings=warnings,
            set_up=_set_up(target, spec, job, done, prepare_s, floor),
            signals=signals.received,
            verification=None
            if references is None
            else verified(references, done.outcome.kept, tensors_only=chosen.name == "native"),
        )
    failure = done.outcome.first_failure if on_error == "stop" else None
    if failure is not None:
        when = (
            "while warming up"
            if failure.warming_up
            else f"after {result.summary.completed_calls:,} completed calls"
        )
        raise CallError(
            f"{target.name} raised in caller {failure.caller} on input {failure.input} {when}: "
            f"{type(failure.exception).__name__}: {exception_text(failure.exception)}",
            caller=failure.caller,
            input=failure.input,
            result=result,
        ) from failure.exception
    if result.status == "interrupted":
        raise RunInterrupted(
            f"{signals.received[0]} ended the run after {done.log.calls_made:,} calls",
            result=result,
            abandoned=done.abandoned,
        )
    return result


def _result(
    target: Target,
    spec: RunSpec,
    job: Job,
    done: Execution,
    *,
    warnings: list[RunWarning],
    set_up: SetUp,
    signals: list[str],
    verification: Verification | None,
) -> RunResult:
    cores, devices = usable_cores(), set(job.synchronize)
    failed = spec.on_error == "stop" and done.outcome.first_failure is not None
    steady = stats.judged(done.log)
    from_s = stats.cut_of(steady) if spec.warmup == "auto" else 0.0
    made_calls = done.log.calls_made
    unfinished = max(done.due_calls - made_calls, 0)
    summary = stats.summarize(
        done.log,
        spec.items_per_input,
        callers=spec.callers,
        from_s=from_s,
        unfinished=unfinished,
        # a run that was cut short was not looked at for as long as its calls were due
        in_flight=None if signals or failed else done.watcher.mean_in_flight(from_s),
        due_s=done.watcher.due_s,
        observed_s=done.stopped_s if done.abandoned or unfinished else None,
    )
    found = checks.Findings(
        spec=spec,
        summary=summary,
        steady=steady,
        disturbances=done.disturbances,
        made_calls=made_calls,
        failed_calls=done.log.calls_failed,
        errors=done.outcome.errors,
        floor_ms=set_up.floor_ms,
        run_delay_s=done.outcome.run_delay_ns / NS_PER_S,
        recompiled_graphs=done.recompiled_graphs,
        cut_short=bool(signals) or failed,
        disk_full=done.outcome.disk_full,
        log_was_full=done.outcome.log_was_full,
        on_device=bool(devices),
        verification=verification,
    )
    return RunResult(
        run_id=job.log.run_id,
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        status="interrupted" if signals else "failed" if failed else "complete",
        spec=spec,
        environment=environment(devices),
        set_up=set_up,
        summary=summary,
        warnings=(
            *warnings,
            *done.warnings,
            *target.run_warnings(spec.callers),
            *checks.warnings_before(
                spec, target.modules(), usable_cores=cores, on_device=bool(devices)
            ),
            *checks.warnings_after(found),
        ),
        steady=steady,
        verification=verification,
        log=done.log,
    )


def _set_up(
    target: Target,
    spec: RunSpec,
    job: Job,
    done: Execution,
    prepare_s: float,
    floor: float | None,
) -> SetUp:
    slowest: Sequence[int] = max(
        (first for first in done.outcome.first_calls_ns if first),
        key=lambda first: first[0],
        default=(),
    )
    first_call_ms = target.first_call_ms
    if first_call_ms is None and spec.warmup_calls and slowest:
        first_call_ms = slowest[0] / NS_PER_MS
    return SetUp(
        prepare_s=prepare_s,
        open_s=done.open_s,
        first_call_ms=first_call_ms,
        first_ten_ms=tuple(duration / NS_PER_MS for duration in slowest),
        log_bytes=job.log.reserved_bytes,
        floor_ms=floor,
    )
