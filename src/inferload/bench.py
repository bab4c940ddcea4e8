"""One run: prepare, execute, summarize."""

from __future__ import annotations

import logging
import time
import uuid
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from inferload import checks, stats
from inferload.environment import environment, usable_cores
from inferload.errors import CallError, NativeBuildError, PlanError, RunInterrupted
from inferload.execution import Execution, Observer, execute
from inferload.executors.base import Executor, Job, exception_text
from inferload.executors.native import NativeExecutor
from inferload.executors.native_build import native_extension
from inferload.executors.thread_state import ThreadState
from inferload.executors.threads import ThreadsExecutor
from inferload.inputs import as_call_inputs, described, input_order, owned
from inferload.loads import ClosedLoop, check_count
from inferload.log_file import LogFile
from inferload.records import RunResult, RunSpec, RunWarning, SetUp
from inferload.signals import StopSignals
from inferload.targets.load import as_target
from inferload.trace import check_traceable
from inferload.units import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from inferload.inputs import CallInput
    from inferload.targets.base import Target

EXECUTORS = ("auto", "threads", "native")
LONGEST_S = 10 * 365 * 86_400.0


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
    load: ClosedLoop | None = None,
    calls: int | None = None,
    duration_s: float | None = None,
    warmup_calls: int = 10,
    executor: str = "auto",
    threads_per_call: int | None = None,
    seed: int = 0,
    on_error: str = "stop",
    share_inputs: bool = False,
    trace: str | os.PathLike[str] | None = None,
    observer: Observer | None = None,
) -> RunResult:
    """Call a model from many callers at once and record every call.

    Args:
        model: ``nn.Module``, ``ScriptModule``, ``ExportedProgram``, path to a ``.pt`` or
            ``.pt2``, any callable, or a ``Target``.
        inputs: a sequence of ``CallInput``, tensor (one positional argument), tuple (args) or
            dict (kwargs); each call takes one of them, drawn with ``seed``.
        load: ``ClosedLoop(callers=...)``; one caller if not given.
        calls: calls in all, over all callers, met exactly; 1,000 if ``duration_s`` is not given
            either.
        duration_s: seconds to go on starting calls; those in flight then are finished.
        warmup_calls: calls each caller makes before the start line, not logged.
        executor: ``"threads"``, ``"native"`` (TorchScript, AOTInductor), or ``"auto"``: native
            where the target and the machine allow it.
        threads_per_call: intra-op threads of each call; torch's present setting if not given.
        seed: draws the order of inputs.
        on_error: ``"stop"`` ends the run at the first exception; ``"record"`` logs it and goes on.
        share_inputs: let callers share the tensors given, where each else has copies.
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
    calls = 1000 if calls is None and duration_s is None else calls
    _check_options(load, calls, duration_s, warmup_calls, executor, threads_per_call, on_error)
    check_count("seed", seed, at_least=0)
    if trace_path is not None:
        check_traceable(trace_path)
    target = as_target(model)
    given = as_call_inputs(inputs)

    observer.stage(f"preparing {target.name}")
    with ExitStack() as stack:
        stack.enter_context(_intra_op_threads(threads_per_call))
        prepare_started = time.perf_counter()
        chosen, warnings = _executor_for(target, executor, observer)
        state = ThreadState.of_this_thread()
        spec = RunSpec(
            target=target.name,
            form=target.form,
            executor=chosen.name,
            load=str(load),
            callers=load.callers,
            calls=calls,
            duration_s=duration_s,
            warmup_calls=warmup_calls,
            threads_per_call=torch.get_num_threads(),
            inputs=tuple(described(one) for one in given),
            items_per_input=tuple(one.items for one in given),
            share_inputs=share_inputs,
            seed=seed,
            on_error=on_error,
            grad_mode=state.grad_mode,
            autocast=state.autocast_mode,
        )
        job, log_file = _prepared(target, given, spec)
        stack.callback(log_file.close)
        prepare_s = time.perf_counter() - prepare_started + target.conversion_s
        signals = stack.enter_context(StopSignals())
        with target.while_called(load.callers):
            done = execute(chosen, job, observer, trace_path, signals)
        # a signal that comes from here on does not lose what was measured
        result = _result(target, spec, job, done, warnings, prepare_s, signals.received)
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
            f"{signals.received[0]} ended the run after {len(done.log):,} calls",
            result=result,
            abandoned=done.abandoned,
        )
    return result


def _result(
    target: Target,
    spec: RunSpec,
    job: Job,
    done: Execution,
    warnings: list[RunWarning],
    prepare_s: float,
    signals: list[str],
) -> RunResult:
    cores, devices = usable_cores(), set(job.synchronize)
    first_call_ms = target.first_call_ms
    if first_call_ms is None and spec.warmup_calls and max(done.outcome.first_call_ns):
        first_call_ms = max(done.outcome.first_call_ns) / NS_PER_MS
    failed = spec.on_error == "stop" and done.outcome.first_failure is not None
    return RunResult(
        run_id=job.log.run_id,
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        status="interrupted" if signals else "failed" if failed else "complete",
        spec=spec,
        environment=environment(devices),
        set_up=SetUp(
            prepare_s=prepare_s,
            open_s=done.open_s,
            first_call_ms=first_call_ms,
            log_bytes=job.log.reserved_bytes,
        ),
        summary=stats.summarize(done.log, spec.items_per_input),
        warnings=(
            *warnings,
            *done.warnings,
            *target.run_warnings(spec.callers),
            *checks.warnings_before(
                spec, target.modules(), usable_cores=cores, on_device=bool(devices)
            ),
            *checks.warnings_after(
                spec,
                done.log,
                done.outcome,
                recompiled_graphs=done.recompiled_graphs,
                usable_cores=cores,
            ),
        ),
        log=done.log,
    )


def _check_options(
    load: object,
    calls: int | None,
    duration_s: float | None,
    warmup_calls: int,
    executor: str,
    threads_per_call: int | None,
    on_error: str,
) -> None:
    if not isinstance(load, ClosedLoop):
        raise PlanError(f"load is a {type(load).__name__}: give il.ClosedLoop(callers=4)")
    if calls is not None and duration_s is not None:
        raise PlanError(
            f"calls={calls!r} and duration_s={duration_s!r} were both given: a run ends by one"
        )
    if calls is not None:
        check_count("calls", calls, at_least=1)
    if duration_s is not None and (
        isinstance(duration_s, bool)
        or not isinstance(duration_s, int | float)
        or not 0 < duration_s <= LONGEST_S
    ):
        raise PlanError(f"duration_s is {duration_s!r}: it must be more than 0 s, and finite")
    check_count("warmup_calls", warmup_calls, at_least=0)
    if threads_per_call is not None:
        check_count("threads_per_call", threads_per_call, at_least=1, at_most=4096)
    if executor not in EXECUTORS:
        raise PlanError(f"executor {executor!r} is unknown: choose {', '.join(EXECUTORS)}")
    if on_error not in {"stop", "record"}:
        raise PlanError(f"on_error {on_error!r} is unknown: choose stop or record")


def _executor_for(
    target: Target, asked: str, observer: Observer
) -> tuple[Executor, list[RunWarning]]:
    if asked == "threads" or (asked == "auto" and not target.runs_natively):
        return ThreadsExecutor(), []
    if not target.runs_natively:
        raise PlanError(
            f"native callers run TorchScript and AOTInductor, and {target.name} is in the form "
            f"{target.form!r}: use the executor threads, or export the model (--form aoti)"
        )
    try:
        native_extension(observer.stage)
    except NativeBuildError as error:
        if asked == "native":
            raise
        return ThreadsExecutor(), [
            RunWarning(
                code="native-unavailable",
                message=f"Python threads called the target, holding the GIL: {error}",
                hint="inferload doctor says what native callers need",
            )
        ]
    return NativeExecutor(), []


def _prepared(target: Target, given: Sequence[CallInput], spec: RunSpec) -> tuple[Job, LogFile]:
    """Check and copy the inputs, compile, and set the log file aside."""
    target.load(spec.callers)
    bound = [target.bind(number, one) for number, one in enumerate(given)]
    log_file = LogFile(spec.calls, run_id=uuid.uuid4().hex)
    try:
        target.prepare(bound if spec.share_inputs else [owned(one) for one in bound])
        own = [
            bound if spec.share_inputs else [owned(one) for one in bound]
            for _ in range(spec.callers)
        ]
    except BaseException as error:
        log_file.close()
        if isinstance(error, Exception | SystemExit) and not isinstance(error, PlanError):
            raise PlanError(
                f"{target.name} failed while it was prepared: {type(error).__name__}: "
                f"{exception_text(error)}"
            ) from error
        raise
    return (
        Job(
            target=target,
            inputs=own,
            order=input_order(len(bound), spec.calls, spec.seed),
            calls=spec.calls,
            duration_ns=None if spec.duration_s is None else int(spec.duration_s * NS_PER_S),
            warmup_calls=spec.warmup_calls,
            threads_per_call=spec.threads_per_call,
            stop_on_error=spec.on_error == "stop",
            synchronize=tuple(sorted(target.devices(bound), key=str)),
            log=log_file,
        ),
        log_file,
    )


@contextmanager
def _intra_op_threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        # callers set their own, which also sets what new threads start with
        torch.set_num_threads(before)
