"""Python callers, one thread each: how they are started, released and waited for."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from inferload.callers.device_work import timed_one_in
from inferload.callers.job import LEAD_NS
from inferload.callers.outcome import Outcome
from inferload.callers.python.caller import PythonCaller
from inferload.callers.python.clock import Clock, MonotonicClock
from inferload.callers.python.run import Run

if TYPE_CHECKING:
    from inferload.callers.job import Job


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
        self._run = run = Run(job, clock)
        self.now_ns = clock.now_ns
        self._ready = self._done = 0
        self._ended = threading.Semaphore(0)
        self._callers = [PythonCaller(run, number) for number in range(job.callers)]
        self._threads = [
            # a call that never returns must not keep the process
            threading.Thread(
                target=run.state.context.copy().run,
                args=(self._calling, caller),
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
        while self._ready < len(self._callers):
            if not self._run.at_line.acquire(timeout=max(deadline - time.monotonic(), 0)):
                return False
            self._ready += 1
        return True

    def release(self, at_ns: int | None = None) -> int:
        """Let all callers leave the start line; the time of it, monotonic nanoseconds."""
        run, job = self._run, self._run.job
        if job.device_work is not None:
            run.timed_one_in = timed_one_in([caller.first_calls_ns for caller in self._callers])
        lead_ns = LEAD_NS if job.open_loop or job.queued else 0
        run.start_ns = start = run.clock.now_ns() + lead_ns if at_ns is None else at_ns
        if run.queue is not None:
            run.queue.begin(start)
        if job.duration_ns is not None:
            run.set_limit(start + job.duration_ns)
        run.released.set()
        return start

    def wait_done(self, timeout_s: float) -> bool:
        """Wait until every caller has finished."""
        # not by joining: Python 3.11 takes a thread for dead whose join() a signal interrupted
        deadline = time.monotonic() + timeout_s
        while self._done < len(self._callers):
            if not self._ended.acquire(timeout=max(deadline - time.monotonic(), 0)):
                return False
            self._done += 1
        return True

    def stop(self) -> None:
        """Let each caller finish the call it is in, and no more."""
        self._run.stop()

    def end_at(self, rows: int) -> None:
        """Open loop: start no call from row ``rows`` on; those before have the drain time."""
        self._run.end_at(rows)

    def fold_to(self, rows: int) -> None:
        """Rows before this have been read: their places in the log may be written again."""
        self._run.folded_rows = rows

    def join(self) -> None:
        """Wait for the callers to end."""
        for thread in self._threads:
            thread.join()

    def claimed_rows(self) -> int:
        """How many rows of the log callers have claimed so far."""
        return self._run.next_row

    def warmed_calls(self) -> int:
        """How many warm-up calls the callers have made so far."""
        return sum(caller.warmed for caller in self._callers)

    def outcome(self) -> Outcome:
        """What is known so far; complete after ``join``."""
        run = self._run
        return Outcome(
            claimed_rows=run.next_row,
            first_calls_ns=[list(caller.first_calls_ns) for caller in self._callers],
            errors=tuple(run.failures),
            first_failure=run.first_failure,
            disk_full=run.disk_full,
            stopped_ns=run.stopped_ns,
            batches_limited_to=None if run.queue is None else run.queue.limited_to,
            run_delay_ns=sum(caller.run_delay_ns for caller in self._callers),
            log_was_full=run.log_was_full,
            kept=[caller.keeper.kept for caller in self._callers],
            cpus=[caller.cpus for caller in self._callers],
            threads=[caller.threads for caller in self._callers],
            threads_set=[caller.threads_set for caller in self._callers],
            warmed=[caller.warmed for caller in self._callers],
        )

    def _calling(self, caller: PythonCaller) -> None:
        run = self._run
        try:
            caller.run()
        except BaseException as error:  # noqa: BLE001 - a caller that ends must say why
            run.record(error, caller.number, 0, warming_up=True)
            run.stop()
            run.at_line.release()
        finally:
            run.first_made.set()
            self._ended.release()
