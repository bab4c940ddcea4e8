"""Native callers: C++ threads that run TorchScript graphs and AOTInductor packages, GIL-free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inferload.errors import PlanError
from inferload.executors.base import FirstFailure, Outcome, call_failure
from inferload.executors.native_build import native_extension
from inferload.log_file import GROWTH_ROWS

if TYPE_CHECKING:
    from inferload.executors.base import Job

_CALLERS = {"ScriptModel": "ScriptCallers", "AotiModel": "AotiCallers"}


class NativeExecutor:
    """Runs callers as C++ threads."""

    name = "native"

    def start(self, job: Job) -> RunningNative:
        """Start one C++ thread a caller.

        Raises:
            PlanError: the target needs Python.
            NativeBuildError: the extension cannot be had.
        """
        extension = native_extension()
        model = job.target.native_callable(extension, job.inputs)
        if model is None:
            raise PlanError(
                f"native callers run TorchScript and AOTInductor, and {job.target.name} is in the "
                f"form {job.target.form!r}: use the executor 'threads', or export it "
                "(--form aoti)"
            )
        plan = extension.Plan(
            callers=job.callers,
            rows=job.log.rows,
            room=job.log.room,
            open_ended=job.calls is None,
            duration_ns=job.duration_ns or 0,
            warmup_calls=job.warmup_calls,
            threads_per_call=job.threads_per_call,
            stop_on_error=job.stop_on_error,
            log_fd=job.log.fileno,
            reserved_rows=job.log.reserved_rows,
            growth_rows=GROWTH_ROWS,
            synchronize=[str(device) for device in job.synchronize],
        )
        callers = getattr(extension, _CALLERS[type(model).__name__])
        return RunningNative(callers(model, plan, job.log.buffer, job.order.tolist()))


class RunningNative:
    """C++ callers that have been started."""

    def __init__(self, callers: Any) -> None:
        self._callers = callers
        self.wait_ready = callers.wait_ready
        self.release = callers.release
        self.wait_done = callers.wait_done
        self.stop = callers.stop
        self.join = callers.join
        self.claimed_rows = callers.claimed_rows

    def outcome(self) -> Outcome:
        """What is known so far; complete after ``join``."""
        failures = self._callers.failures()
        raised = [self._raised(number) for number in range(len(failures))]
        first = None
        if failures:
            caller, input_number, warming_up = failures[0]
            first = FirstFailure(
                exception=raised[0], caller=caller, input=input_number, warming_up=warming_up
            )
        return Outcome(
            claimed_rows=self.claimed_rows(),
            first_call_ns=self._callers.first_call_ns(),
            errors=tuple(call_failure(exception) for exception in raised),
            first_failure=first,
            disk_full=self._callers.disk_full(),
        )

    def _raised(self, number: int) -> BaseException:
        try:
            self._callers.raise_failure(number)
        except BaseException as error:  # noqa: BLE001 - whatever the target raised
            return error
        raise AssertionError("raise_failure raises")
