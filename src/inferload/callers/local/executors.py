"""Which executor runs the callers of a lane, and whether it has the compiled extension."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from inferload.callers.native.build import built_extension, native_extension
from inferload.callers.native.executor import NativeExecutor
from inferload.callers.python.executor import ThreadsExecutor
from inferload.callers.tasks.executor import TasksExecutor
from inferload.errors import NativeBuildError, PlanError
from inferload.plan.model import or_a_native_form
from inferload.records.figures import RunWarning

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferload.callers.job import Executor, Job
    from inferload.targets.base import Target

_FRESH_IN_PYTHON = RunWarning(
    code="python-callers",
    message="Python threads called the target, holding the GIL: they make the fresh inputs",
    hint="without --fresh-inputs native callers call it",
)


def executor_for(
    target: Target, asked: object, announce: Callable[[str], None], *, fresh_inputs: bool = False
) -> tuple[Executor, list[RunWarning]]:
    """The executor asked for, or native callers where target and machine allow them.

    Raises:
        PlanError: native callers were asked for, and the target or fresh inputs need Python.
        NativeBuildError: native callers were asked for, and cannot be had.
    """
    if fresh_inputs:
        _check_fresh(target, asked)
    if not isinstance(asked, str):
        return cast("Executor", asked), []
    if asked == "async" or (asked == "auto" and target.asynchronous):
        return TasksExecutor(), []
    if target.asynchronous:
        raise PlanError(
            f"{target.name} is asynchronous, and callers of the executor {asked!r} do not await: "
            "use the executor async (--executor async), or auto, which takes it"
        )
    if fresh_inputs and asked == "auto" and target.runs_natively:
        return ThreadsExecutor(), [_FRESH_IN_PYTHON]
    if asked == "threads" or (asked != "native" and not target.runs_natively):
        return ThreadsExecutor(), []
    if not target.runs_natively:
        raise PlanError(
            f"native callers run TorchScript and AOTInductor, and {target.name} is in the form "
            f"{target.form!r}: use the executor threads{or_a_native_form(target.may_become)}"
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


def _check_fresh(target: Target, asked: object) -> None:
    """Refuse fresh inputs where calls have them anyway, or nobody makes them.

    Raises:
        PlanError: saying which.
    """
    if "cudagraph" in target.form:
        raise PlanError(
            "a CUDA graph reads tensors of its own, which each call copies its input to: its "
            "inputs are fresh in each call anyway, so leave fresh_inputs (--fresh-inputs) out"
        )
    if "native" in {asked, getattr(asked, "name", None)}:
        raise PlanError(
            "fresh copies of inputs are made by Python callers: use --executor threads, or leave "
            "fresh_inputs (--fresh-inputs) out"
        )


def with_extension(
    job: Job, executor: Executor, announce: Callable[[str], None]
) -> tuple[Job, list[RunWarning]]:
    """A job whose Python callers have the compiled extension, if it is there.

    If their calls are on a device it is built, and there is a warning where it cannot be.
    """
    if executor.name != "threads":
        return job, []
    if job.device_work is None:
        return replace(job, extension=built_extension()), []
    try:
        extension = native_extension(announce)
    except NativeBuildError as error:
        return job, [
            RunWarning(
                code="native-unavailable",
                message=(
                    "callers waited for the device, and timed it, in Python, which takes the GIL "
                    f"from others: {error}"
                ),
                hint="inferload doctor says what native callers need",
            )
        ]
    return replace(job, device_work=replace(job.device_work, extension=extension)), []
