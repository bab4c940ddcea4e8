"""From what was asked for to what is run: options checked, the executor chosen, inputs copied."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from inferload.environment import usable_cores
from inferload.errors import NativeBuildError, PlanError
from inferload.executors.base import Executor, Job, exception_text
from inferload.executors.native import NativeExecutor
from inferload.executors.native_build import native_extension
from inferload.executors.threads import ThreadsExecutor
from inferload.inputs import input_order, owned
from inferload.loads import ClosedLoop, OpenLoop, Schedule
from inferload.log_file import LogFile
from inferload.options import check_count, check_positive
from inferload.records import QUOTED_QUANTILES, RunWarning
from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from inferload.inputs import CallInput
    from inferload.records import RunSpec
    from inferload.targets.base import Target

EXECUTORS = ("auto", "threads", "native")
LONGEST_S = 10 * 365 * 86_400.0
DEFAULT_TIME_LIMIT_S = 60.0
# Outputs that each caller keeps to be compared.
KEPT_OUTPUTS = 64


def check_options(
    *,
    load: object,
    calls: int | None,
    duration_s: float | None,
    precision: float | None,
    quantile: str,
    time_limit_s: float | None,
    warmup: str | None,
    warmup_calls: int,
    executor: str | Executor,
    threads_per_call: int | None,
    on_error: str,
    seed: int,
) -> None:
    """Refuse options that cannot be run.

    Raises:
        PlanError: naming the option and its value.
    """
    if not isinstance(load, ClosedLoop | OpenLoop):
        raise PlanError(
            f"load is a {type(load).__name__}: give il.ClosedLoop(callers=4) or "
            "il.OpenLoop.poisson(rate_per_s=200, callers=4)"
        )
    _check_end(calls, duration_s, precision, quantile, time_limit_s)
    if warmup not in {None, "auto", "fixed"}:
        raise PlanError(f"warmup {warmup!r} is unknown: choose auto or fixed")
    check_count("warmup_calls", warmup_calls, at_least=0)
    if threads_per_call is not None:
        check_count("threads_per_call", threads_per_call, at_least=1, at_most=4096)
    if isinstance(executor, str) and executor not in EXECUTORS:
        raise PlanError(f"executor {executor!r} is unknown: choose {', '.join(EXECUTORS)}")
    if on_error not in {"stop", "record"}:
        raise PlanError(f"on_error {on_error!r} is unknown: choose stop or record")
    check_count("seed", seed, at_least=0)


def _check_end(
    calls: int | None,
    duration_s: float | None,
    precision: float | None,
    quantile: str,
    time_limit_s: float | None,
) -> None:
    ends = {"calls": calls, "duration_s": duration_s, "precision": precision}
    given = {name: value for name, value in ends.items() if value is not None}
    if len(given) > 1:
        both = " and ".join(f"{name}={value!r}" for name, value in given.items())
        count = "both" if len(given) == 2 else "all"
        raise PlanError(f"{both} were {count} given: a run ends by one of them")
    if calls is not None:
        check_count("calls", calls, at_least=1)
    if duration_s is not None:
        check_positive("duration_s", duration_s, at_least=1e-9, at_most=LONGEST_S)
    if precision is not None:
        check_positive("precision", precision, at_most=0.5)
    if time_limit_s is not None:
        check_positive("time_limit_s", time_limit_s, at_least=1e-9, at_most=LONGEST_S)
        if precision is None:
            raise PlanError(
                f"time_limit_s={time_limit_s:g} goes with precision, and none was given"
            )
    if quantile not in QUOTED_QUANTILES:
        raise PlanError(f"quantile {quantile!r} is unknown: choose {', '.join(QUOTED_QUANTILES)}")


def executor_for(
    target: Target, asked: str | Executor, announce: Callable[[str], None]
) -> tuple[Executor, list[RunWarning]]:
    """The executor asked for, or native callers where target and machine allow them.

    Raises:
        PlanError: native callers were asked for, and the target needs Python.
        NativeBuildError: native callers were asked for, and cannot be had.
    """
    if not isinstance(asked, str):
        return asked, []
    if asked == "threads" or (asked == "auto" and not target.runs_natively):
        return ThreadsExecutor(), []
    if not target.runs_natively:
        raise PlanError(
            f"native callers run TorchScript and AOTInductor, and {target.name} is in the form "
            f"{target.form!r}: use the executor threads, or export the model (--form aoti)"
        )
    try:
        native_extension(announce)
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


def prepared(
    target: Target, given: Sequence[CallInput], spec: RunSpec, load: ClosedLoop | OpenLoop
) -> tuple[Job, LogFile]:
    """Check and copy the inputs, compile, draw the schedule, and set the log file aside.

    Raises:
        PlanError: the target failed, an input does not fit, or there is no room for the log.
    """
    schedule = scheduled(spec, load)
    target.load(spec.callers)
    bound = [target.bind(number, one) for number, one in enumerate(given)]
    known = schedule.calls if schedule is not None else spec.calls
    log_file = LogFile(known, uuid.uuid4().hex, set_aside=spec.precision is None)
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
    limit_s = spec.duration_s if spec.precision is None else spec.time_limit_s
    limit_ns = None if limit_s is None else int(limit_s * NS_PER_S)
    drain_ns = int((spec.drain_s or 0) * NS_PER_S)
    if schedule is not None:
        limit_ns = schedule.end_ns + drain_ns
    return (
        Job(
            target=target,
            inputs=own,
            order=input_order(len(bound), spec.calls, spec.seed),
            calls=spec.calls,
            duration_ns=limit_ns,
            warmup_calls=spec.warmup_calls,
            threads_per_call=spec.threads_per_call,
            stop_on_error=spec.on_error == "stop",
            synchronize=tuple(sorted(target.devices(bound), key=str)),
            log=log_file,
            kept_outputs=KEPT_OUTPUTS if spec.verify else 0,
            schedule=schedule,
            drain_ns=drain_ns,
            watchers=max(min(spec.callers, int(usable_cores())), 1),
        ),
        log_file,
    )


def scheduled(spec: RunSpec, load: ClosedLoop | OpenLoop) -> Schedule | None:
    """When each call is due; ``None`` in a closed loop.

    Raises:
        PlanError: no call is due in time, or more calls were asked for than a replay has.
    """
    if isinstance(load, ClosedLoop):
        return None
    limit_s = spec.duration_s if spec.precision is None else spec.time_limit_s
    found = load.schedule(spec.calls, limit_s)
    if spec.calls is not None and found.calls < spec.calls:
        raise PlanError(
            f"{spec.calls:,} calls were asked for, and the replay has {found.calls:,}: "
            "ask for no more than that"
        )
    return found


@contextmanager
def intra_op_threads(count: int | None) -> Iterator[None]:
    """Set the intra-op threads of this thread, and put them back."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        # callers set their own, which also sets what new threads start with
        torch.set_num_threads(before)
