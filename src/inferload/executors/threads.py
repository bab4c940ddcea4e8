"""Python callers: one thread each; here is what they share, python_caller.py has what each does."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import torch

from inferload.call_log import DISTINCT_ERRORS
from inferload.device_errors import is_fatal
from inferload.executors.base import (
    LEAD_NS,
    call_failure,
    exception_text,
    exception_words,
    place_of,
)
from inferload.executors.clock import Clock, MonotonicClock
from inferload.executors.device_work import timed_one_in
from inferload.executors.python_caller import PythonCaller
from inferload.executors.thread_state import ThreadState
from inferload.log_file import BLOCK_ROWS, GROWTH_ROWS
from inferload.outcome import FirstFailure, Outcome

if TYPE_CHECKING:
    from inferload.call_log import CallFailure
    from inferload.executors.base import Job

_NEVER = 2**63 - 1
_LOG_FULL_POLL_S = 0.001


class ThreadsExecutor:
    """Runs callers as Python threads, by the system's clock or a simulated one."""

    name = "threads"

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or MonotonicClock()

    def start(self, job: Job) -> RunningThreads:
        """Start one Python thread a caller."""
        return RunningThreads(job, self._clock)


class RunningThreads:
    """Python callers that have been started."""

    def __init__(self, job: Job, clock: Clock) -> None:
        self.job = job
        self._pid = os.getpid()
        self.clock = clock
        self.now_ns = clock.now_ns
        self.state = ThreadState.of_this_thread()
        work = job.device_work
        #: The streams that are current where the run is started.
        self.streams = (
            [] if work is None else [torch.accelerator.current_stream(d) for d in work.devices]
        )
        # A call that finishes later than this is the caller's last one; 0 stops all callers.
        self.limit_ns = [_NEVER]
        self._stopped_ns: int | None = None
        self.start_ns = 0
        #: Of how many calls on a device one has its stages timed; known at the start line.
        self.timed_one_in = 1
        #: Open loop: the one caller that holds it watches for the next due call.
        self.watch = clock.lock()
        self.end_row = job.log.rows
        self.at_line = threading.Semaphore(0)
        self.released = threading.Event()
        #: The first call of each model is made by one caller alone: many build state in it.
        self.alone = min(max(job.warmup_calls, job.first_calls), max(len(job.target.shares()), 1))
        self.first_made = threading.Event()
        if not self.alone:
            self.first_made.set()
        self._lock = threading.Lock()
        self._next_row = 0
        self._folded_rows = 0
        self._log_was_full = False
        self._disk_full = False
        self._ready = 0
        self._ended = threading.Semaphore(0)
        self._done = 0
        self._errors: dict[tuple[type, str], int] = {}
        self._failures: list[CallFailure] = []
        self._first_failure: FirstFailure | None = None
        self._callers = [PythonCaller(self, number) for number in range(job.callers)]
        self._threads = [
            # a call that never returns must not keep the process
            threading.Thread(
                target=self.state.context.copy().run,
                args=(self._run, caller),
                name=f"caller-{caller.number}",
                daemon=True,
            )
            for caller in self._callers
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
        while self._ready < self.job.callers:
            if not self.at_line.acquire(timeout=max(deadline - time.monotonic(), 0)):
                return False
            self._ready += 1
        return True

    def release(self, at_ns: int | None = None) -> int:
        """Let all callers leave the start line; the time of it, monotonic nanoseconds."""
        if self.job.device_work is not None:
            self.timed_one_in = timed_one_in([caller.first_calls_ns for caller in self._callers])
        lead_ns = LEAD_NS if self.job.schedule is not None else 0
        self.start_ns = start = self.clock.now_ns() + lead_ns if at_ns is None else at_ns
        if self.job.duration_ns is not None:
            self._set_limit(start + self.job.duration_ns)
        self.released.set()
        return start

    def wait_done(self, timeout_s: float) -> bool:
        """Wait until every caller has finished."""
        # not by joining: Python 3.11 takes a thread for dead whose join() a signal interrupted
        deadline = time.monotonic() + timeout_s
        while self._done < self.job.callers:
            if not self._ended.acquire(timeout=max(deadline - time.monotonic(), 0)):
                return False
            self._done += 1
        return True

    def stop(self) -> None:
        """Let each caller finish the call it is in, and no more."""
        # called by signal handlers, so it takes no lock: the line may be just opening
        if self._stopped_ns is None:
            self._stopped_ns = self.clock.now_ns()
        self.limit_ns[0] = 0

    def _set_limit(self, limit_ns: int) -> None:
        self.limit_ns[0] = limit_ns
        if self._stopped_ns is not None:  # perhaps at this very moment
            self.limit_ns[0] = 0

    def end_at(self, rows: int) -> None:
        """Open loop: start no call from row ``rows`` on; those before have the drain time."""
        with self._lock:
            self.end_row = min(rows, self.end_row)
        self._set_limit(self.clock.now_ns() + self.job.drain_ns)

    def fold_to(self, rows: int) -> None:
        """Rows before this have been read: their places in the log may be written again."""
        self._folded_rows = rows

    def join(self) -> None:
        """Wait for the callers to end."""
        for thread in self._threads:
            thread.join()

    def claimed_rows(self) -> int:
        """How many rows of the log callers have claimed so far."""
        return self._next_row

    def warmed_calls(self) -> int:
        """How many warm-up calls the callers have made so far."""
        return sum(caller.warmed for caller in self._callers)

    def outcome(self) -> Outcome:
        """What is known so far; complete after ``join``."""
        return Outcome(
            claimed_rows=self._next_row,
            first_calls_ns=[list(caller.first_calls_ns) for caller in self._callers],
            errors=tuple(self._failures),
            first_failure=self._first_failure,
            disk_full=self._disk_full,
            stopped_ns=self._stopped_ns,
            run_delay_ns=sum(caller.run_delay_ns for caller in self._callers),
            log_was_full=self._log_was_full,
            kept=[caller.keeper.kept for caller in self._callers],
            cpus=[caller.cpus for caller in self._callers],
            threads=[caller.threads for caller in self._callers],
            threads_set=[caller.threads_set for caller in self._callers],
            warmed=[caller.warmed for caller in self._callers],
        )

    def claim(self, in_a_while: int) -> tuple[int, int] | None:
        """The next range of rows for a caller, as ``Claims::claim`` in claims.h."""
        while True:
            with self._lock:
                claimed = self._claimed(in_a_while)
            if claimed is None or claimed[0] < claimed[1]:
                return claimed
            self._log_was_full = True
            # past the end: a caller that has ended may have left rows that never finish
            if self.clock.now_ns() > self.limit_ns[0]:
                return None
            time.sleep(_LOG_FULL_POLL_S)  # without the lock: what is in the log must be read first

    def _claimed(self, in_a_while: int) -> tuple[int, int] | None:
        """A range of rows, empty while the log is full; ``None`` if the run is over."""
        log, begin, budget = self.job.log, self._next_row, self.job.budget
        left = min(log.rows, self.end_row) - begin
        if left <= 0 or not self.limit_ns[0]:
            return None
        shared = self.job.calls is not None and self.job.schedule is None
        fair = left // (4 * self.job.callers) if shared and budget is None else in_a_while
        wanted = max(1, min(fair, BLOCK_ROWS, left, log.room - begin % log.room))
        end = min(begin + wanted, self._folded_rows + log.room)
        if budget is not None and begin < end:
            end = begin + budget.take(end - begin, self.job.callers_in_all)
            if end == begin:
                return None
        if log.reserved_rows < min(end, log.room):
            try:
                log.reserve(end + GROWTH_ROWS)
            except OSError:
                self._disk_full = True
                self.stop()
                return None
        self._next_row = max(end, begin)
        return begin, end

    def record(
        self, error: BaseException, caller: int, input_number: int, *, warming_up: bool
    ) -> int:
        """Remember an exception; its number among the distinct ones."""
        if is_fatal(exception_words(error)):
            self.stop()  # every further call would fail as well
        with self._lock:
            if self._first_failure is None:
                self._first_failure = FirstFailure(
                    exception=error,
                    place=place_of(error),
                    words=exception_words(error),
                    caller=caller,
                    input=input_number,
                    warming_up=warming_up,
                )
            key = (type(error), exception_text(error))
            if key not in self._errors:
                if len(self._failures) == DISTINCT_ERRORS:
                    return DISTINCT_ERRORS - 1
                self._errors[key] = len(self._failures)
                self._failures.append(call_failure(error))
            return self._errors[key]

    def end_in_fork(self, error: BaseException) -> None:
        """End a process that a model forked in a call, as this exception would have ended it.

        It shares the log, and its calls are nobody's.
        """
        if os.getpid() == self._pid:
            return
        code = 1
        if isinstance(error, SystemExit) and isinstance(error.code, int | None):
            code = error.code or 0
        else:
            sys.excepthook(type(error), error, error.__traceback__)
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)

    def _run(self, caller: PythonCaller) -> None:
        try:
            caller.run()
        except BaseException as error:  # noqa: BLE001 - a caller that ends must say why
            self.record(error, caller.number, 0, warming_up=True)
            self.stop()
            self.at_line.release()
        finally:
            self.first_made.set()
            self._ended.release()
