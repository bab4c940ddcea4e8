"""Python callers: one thread each, with as little Python as possible around the call."""

from __future__ import annotations

import threading
import time
from functools import partial
from itertools import cycle, islice
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import torch

from inferload.executors.base import (
    DISTINCT_ERRORS,
    FirstFailure,
    Outcome,
    call_failure,
    exception_text,
)
from inferload.executors.thread_state import ThreadState
from inferload.log_file import BLOCK_ROWS, GROWTH_ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferload.executors.base import Job
    from inferload.records import CallFailure

_NEVER = 2**63 - 1
# As kBlockNs in native_callers.cpp.
BLOCK_NS = 1_000_000
# How soon a caller at the start line sees that the run was stopped.
STOP_POLL_S = 0.05


class ThreadsExecutor:
    """Runs callers as Python threads."""

    name = "threads"

    def start(self, job: Job) -> RunningThreads:
        """Start one Python thread a caller."""
        return RunningThreads(job)


class RunningThreads:
    """Python callers that have been started."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._state = ThreadState.of_this_thread()
        self._function = _finishing(job.target.python_callable(), job.synchronize)
        # A call that finishes later than this is the caller's last one; 0 stops all callers.
        self._limit_ns = [_NEVER]
        self._lock = threading.Lock()
        self._next_row = 0
        self._disk_full = False
        self._at_line = threading.Semaphore(0)
        self._released = threading.Event()
        self._ready = 0
        self._ended = threading.Semaphore(0)
        self._done = 0
        self._first_call_ns = [0] * job.callers
        self._errors: dict[tuple[type, str], int] = {}
        self._failures: list[CallFailure] = []
        self._first_failure: FirstFailure | None = None
        self._threads = [
            # a call that never returns must not keep the process
            threading.Thread(
                target=self._state.context.copy().run,
                args=(self._run_caller, caller),
                name=f"caller-{caller}",
                daemon=True,
            )
            for caller in range(job.callers)
        ]
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError:
            self.stop()
            raise

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until all callers have warmed up and stand at the start line."""
        deadline = time.monotonic() + timeout_s
        while self._ready < self._job.callers:
            if not self._at_line.acquire(timeout=max(deadline - time.monotonic(), 0)):
                return False
            self._ready += 1
        return True

    def release(self) -> int:
        """Let all callers leave the start line; the time of it, monotonic nanoseconds."""
        start = perf_counter_ns()
        with self._lock:
            if self._limit_ns[0] and self._job.duration_ns is not None:
                self._limit_ns[0] = start + self._job.duration_ns
        self._released.set()
        return start

    def wait_done(self, timeout_s: float) -> bool:
        """Wait until every caller has finished."""
        # not by joining: Python 3.11 takes a thread for dead whose join() a signal interrupted
        deadline = time.monotonic() + timeout_s
        while self._done < self._job.callers:
            if not self._ended.acquire(timeout=max(deadline - time.monotonic(), 0)):
                return False
            self._done += 1
        return True

    def stop(self) -> None:
        """Let each caller finish the call it is in, and no more."""
        # called by signal handlers, so it takes no lock: the line may be just opening
        self._limit_ns[0] = 0

    def join(self) -> None:
        """Wait for the callers to end."""
        for thread in self._threads:
            thread.join()

    def claimed_rows(self) -> int:
        """How many rows of the log callers have claimed so far."""
        return self._next_row

    def outcome(self) -> Outcome:
        """What is known so far; complete after ``join``."""
        return Outcome(
            claimed_rows=self._next_row,
            first_call_ns=list(self._first_call_ns),
            errors=tuple(self._failures),
            first_failure=self._first_failure,
            disk_full=self._disk_full,
        )

    def _run_caller(self, caller: int) -> None:
        try:
            self._open_and_call(caller)
        except BaseException as error:  # noqa: BLE001 - a caller that ends must say why
            self._record(error, caller, 0, warming_up=True)
            self.stop()
            self._at_line.release()
        finally:
            self._ended.release()

    def _open_and_call(self, caller: int) -> None:
        torch.set_num_threads(self._job.threads_per_call)
        with self._state.taken_over():
            calls = [
                partial(self._function, *one.args, **one.kwargs) for one in self._job.inputs[caller]
            ]
            self._warm_up(caller, calls)
            self._at_line.release()
            while self._limit_ns[0] and not self._released.wait(STOP_POLL_S):
                pass
            in_a_while = 1
            while claimed := self._claim(in_a_while):
                started = perf_counter_ns()
                if not self._call_rows(caller, calls, *claimed):
                    break
                fast = perf_counter_ns() - started < BLOCK_NS
                in_a_while = min(2 * in_a_while, BLOCK_ROWS) if fast else max(in_a_while // 2, 1)

    def _warm_up(self, caller: int, calls: Sequence[Callable[[], Any]]) -> None:
        for number in range(self._job.warmup_calls):
            if not self._limit_ns[0]:
                return
            started = perf_counter_ns()
            try:
                calls[number % len(calls)]()
            except BaseException as error:  # noqa: BLE001 - SystemExit of a model, too
                # When errors are recorded, only those of measured calls count.
                if self._job.stop_on_error:
                    self._record(error, caller, number % len(calls), warming_up=True)
                    self.stop()
            if number == 0:
                self._first_call_ns[caller] = perf_counter_ns() - started

    def _claim(self, in_a_while: int) -> tuple[int, int] | None:
        """The next range of rows for a caller, as ``Run::claim`` in native_callers.cpp."""
        log = self._job.log
        with self._lock:
            begin = self._next_row
            left = log.rows - begin
            if left <= 0 or not self._limit_ns[0]:
                return None
            fair = left // (4 * self._job.callers) if self._job.calls else in_a_while
            end = begin + max(1, min(fair, BLOCK_ROWS, left))
            if end > log.reserved_rows:
                try:
                    log.reserve(end + GROWTH_ROWS)
                except OSError:
                    self._disk_full = True
                    self._limit_ns[0] = 0
                    return None
            self._next_row = end
            return begin, end

    def _call_rows(
        self, caller: int, calls: Sequence[Callable[[], Any]], begin: int, end: int
    ) -> bool:
        """Make the calls of these rows; whether the caller should go on after them."""
        order = self._job.order
        place = begin % len(order)
        inputs = order[place : place + end - begin].tolist()
        if len(inputs) < end - begin:
            inputs = list(islice(cycle(order.tolist()), place, place + end - begin))
        own = {name: column[begin:end] for name, column in self._job.log.columns.items()}
        own["caller"][:] = caller
        own["input"][:] = inputs
        own["error"][:] = -1
        try:
            return self._call_loop(
                caller,
                calls,
                inputs,
                own["started_ns"].data,
                own["finished_ns"].data,
                own["error"].data,
            )
        finally:
            # a closed loop's calls are due when they start
            own["scheduled_ns"][:] = own["started_ns"]

    def _call_loop(
        self,
        caller: int,
        calls: Sequence[Callable[[], Any]],
        inputs: Sequence[int],
        started: memoryview[int],
        finished: memoryview[int],
        errors: memoryview[int],
    ) -> bool:
        # Every name is a local and every object is made before: 0.25 us of harness a call.
        now, limit_ns, row = perf_counter_ns, self._limit_ns, 0
        for number in inputs:
            call = calls[number]
            started[row] = now()
            try:
                output = call()
            except BaseException as error:  # noqa: BLE001 - SystemExit of a model, too
                end = now()
                errors[row] = self._record(error, caller, number, warming_up=False)
                finished[row] = end
                if self._job.stop_on_error:
                    limit_ns[0] = 0
            else:
                finished[row] = end = now()
                output = None  # noqa: F841 - let go of after the stamp
            if end > limit_ns[0]:
                return False
            row += 1  # noqa: SIM113 - enumerate is no faster here
        return True

    def _record(
        self, error: BaseException, caller: int, input_number: int, *, warming_up: bool
    ) -> int:
        with self._lock:
            if self._first_failure is None:
                self._first_failure = FirstFailure(
                    exception=error, caller=caller, input=input_number, warming_up=warming_up
                )
            key = (type(error), exception_text(error))
            if key not in self._errors:
                if len(self._failures) == DISTINCT_ERRORS:
                    return DISTINCT_ERRORS - 1
                self._errors[key] = len(self._failures)
                self._failures.append(call_failure(error))
            return self._errors[key]


def _finishing(
    function: Callable[..., Any], devices: tuple[torch.device, ...]
) -> Callable[..., Any]:
    """The function itself, or one that returns when the work it put on devices is finished."""
    if not devices:
        return function
    modules = [torch.get_device_module(device.type) for device in devices]

    def finished(*args: Any, **kwargs: Any) -> Any:
        output = function(*args, **kwargs)
        for module, device in zip(modules, devices, strict=True):
            module.synchronize(device)
        return output

    return finished
