"""Python callers that have been started: released, waited for, and asked what they left behind."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from inferload.callers.device_work import timed_one_in
from inferload.callers.job import LEAD_NS
from inferload.callers.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferload.callers.python.calling import Calling
    from inferload.callers.python.run import Run
    from inferload.log.piece_times import PieceTimes


class RunningCallers:
    """The callers of a run, in threads that are started by whoever makes this.

    What ends says so by ``ended``, once for each of ``threads``.
    """

    def __init__(self, run: Run, callers: Sequence[Calling]) -> None:
        self._run = run
        self.now_ns = run.clock.now_ns
        self._callers = callers
        self._threads: list[threading.Thread] = []
        self._ready = self._done = 0
        self._ended = threading.Semaphore(0)

    def _start(self, works: Sequence[tuple[Callable[[], None], str]]) -> None:
        """Start a thread for each work, by its name.

        Raises:
            RuntimeError: the machine would not start so many.
        """
        self._threads = [
            # a call that never returns must not keep the process
            threading.Thread(
                target=self._run.state.context.copy().run, args=(work,), name=name, daemon=True
            )
            for work, name in works
        ]
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError:
            self.stop()
            raise

    def _piece_times(self) -> PieceTimes | None:
        if self._done == len(self._threads):  # else some are still in a call
            for caller in self._callers:
                caller.answers.log.put_away()
        return self._run.piece_pool.found()

    def _has_failed(self, caller: Calling, error: BaseException) -> None:
        """A caller has ended by something that was no call's: nobody waits for it."""
        self._run.record(error, caller.number, 0, warming_up=True)
        self._run.stop()
        self._run.at_line.release()

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
        while self._done < len(self._threads):
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
            piece_times=self._piece_times(),
            cpus=[caller.cpus for caller in self._callers],
            threads=[caller.threads for caller in self._callers],
            threads_set=[caller.threads_set for caller in self._callers],
            warmed=[caller.warmed for caller in self._callers],
        )
