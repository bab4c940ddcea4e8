"""Native callers: C++ threads that run TorchScript graphs and AOTInductor packages, GIL-free."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from inferload.callers.device_work import sleeping_events
from inferload.callers.job import LEAD_NS
from inferload.callers.native.batches import gather_plan
from inferload.callers.native.build import native_extension
from inferload.callers.outcome import FirstFailure, Outcome
from inferload.errors import PlanError
from inferload.log.calls import OPTIONAL
from inferload.log.failures import call_failure, exception_words, place_of
from inferload.log.ring import GROWTH_ROWS
from inferload.plan.model import or_a_native_form

if TYPE_CHECKING:
    from types import ModuleType

    from inferload.callers.job import Job

_CALLERS = {
    "ScriptModel": "ScriptCallers",
    "GraphModel": "GraphCallers",
    "AotiModel": "AotiCallers",
    "MixModel": "MixCallers",
    "NoModel": "NoCallers",
}


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
                f"form {job.target.form!r}: use the executor threads"
                f"{or_a_native_form(job.target.may_become)}"
            )
        return RunningNative(extension, model, job)


class RunningNative:
    """C++ callers that have been started."""

    def __init__(self, extension: ModuleType, model: object, job: Job) -> None:
        callers = getattr(extension, _CALLERS[type(model).__name__])
        times, self._lead_ns = np.empty(0, np.int64), 0
        if job.schedule is not None:
            times = np.ascontiguousarray(job.schedule.times_ns)
        if job.schedule is not None or job.queued:
            self._lead_ns = LEAD_NS
        work = job.device_work
        self._events = [] if work is None else [sleeping_events(work) for _ in range(job.callers)]
        given = _given(extension, job)
        if work is not None:
            given.devices = [str(device) for device in work.devices]
            given.own_streams, given.wait_by_event = work.own_streams, work.by_event
            given.timed, given.whole_devices = work.timed, work.whole_devices
            given.events = [[event.cuda_event for event in own] for own in self._events if own]
        self._callers = callers(
            model,
            given,
            job.log.buffer,
            times,
            job.order.tolist(),
            np.empty(0, np.int64) if job.budget is None else job.budget.buffer,
            [] if work is None else [[list(pairs) for pairs in own] for own in work.copies_in],
            None if job.batching is None else gather_plan(extension, job.batching),
        )
        self.now_ns = time.perf_counter_ns
        self.wait_ready = self._callers.wait_ready
        self.wait_done = self._callers.wait_done
        self.stop = self._callers.stop
        self.end_at = self._callers.end_at
        self.fold_to = self._callers.fold_to
        self.join = self._callers.join
        self.claimed_rows = self._callers.claimed_rows

    def release(self, at_ns: int | None = None) -> int:
        """Let all callers leave the start line; the time of it, monotonic nanoseconds."""
        return int(self._callers.release(at_ns or self.now_ns() + self._lead_ns))

    def outcome(self) -> Outcome:
        """What is known so far; complete after ``join``."""
        failures = self._callers.failures()
        raised = [self._raised(number) for number in range(len(failures))]
        first = None
        if failures:
            caller, input_number, warming_up = failures[0]
            first = FirstFailure(
                exception=raised[0],
                place=place_of(raised[0]),
                words=exception_words(raised[0]),
                caller=caller,
                input=input_number,
                warming_up=warming_up,
            )
        return Outcome(
            claimed_rows=self.claimed_rows(),
            first_calls_ns=self._callers.first_calls_ns(),
            run_delay_ns=sum(self._callers.run_delays_ns()),
            log_was_full=self._callers.log_was_full(),
            kept=self._callers.kept_outputs(),
            by_counter=self._callers.by_counter(),
            counter_off_ns=[None if off < 0 else off for off in self._callers.counters_off_ns()],
            cpus=self._callers.cpus(),
            threads=self._callers.threads(),
            errors=tuple(call_failure(exception) for exception in raised),
            first_failure=first,
            disk_full=self._callers.disk_full(),
            stopped_ns=self._callers.stopped_ns() or None,
            batches_limited_to=self._callers.limited_to() or None,
        )

    def _raised(self, number: int) -> BaseException:
        try:
            self._callers.raise_failure(number)
        except BaseException as error:  # noqa: BLE001 - whatever the target raised
            return error
        raise AssertionError("raise_failure raises")


def _given(extension: ModuleType, job: Job) -> Any:
    given = extension.Job()
    given.callers = job.callers
    given.rows = job.log.rows
    given.room = job.log.room
    given.open_ended = job.calls is None or job.budget is not None
    given.callers_in_all = max(job.callers_in_all, job.callers)
    given.warmup_order = list(job.warmup_order or range(len(job.inputs[0])))
    given.cpus = [list(own) for own in job.cpus]
    given.duration_ns = job.duration_ns or 0
    given.warmup_calls = job.warmup_calls
    given.threads_per_call = job.threads_per_call
    given.stop_on_error = job.stop_on_error
    given.log_fd = job.log.fileno
    given.optional = sum(1 << n for n, name in enumerate(OPTIONAL) if name in job.log.optional)
    given.reserved_rows = job.log.reserved_rows
    given.growth_rows = GROWTH_ROWS
    given.kept_outputs = job.kept_outputs
    given.watchers = job.watchers
    if job.schedule is not None:
        given.period_ns = job.schedule.period_ns
        given.drain_ns = job.drain_ns
    if job.queued:
        _queue(given, job)
    return given


def _queue(given: Any, job: Job) -> None:
    """The requests that callers serve in turn."""
    work = job.batching
    given.group_of = [0] * len(job.inputs[0]) if work is None else [*work.joining.group_of]
    given.most_of = [1] if work is None else work.most_of
    given.max_delay_ns = 0 if work is None else work.max_delay_ns
    if job.clients is not None:
        given.clients_first_ns = job.clients.first_ns.tolist()
        given.think_ns = job.clients.think_ns.tolist()
