"""What the Python callers of a run share: the rows they claim, when to stop, what has failed."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import torch

from inferload.callers.answers.piece_log import PiecePool
from inferload.callers.batching.forming import Forming
from inferload.callers.batching.queue import RequestQueue
from inferload.callers.batching.requests import OfClients, Requests, Scheduled
from inferload.callers.outcome import FirstFailure
from inferload.callers.python.thread_state import ThreadState
from inferload.log.calls import PIECES
from inferload.log.distinct import Classes
from inferload.log.failures import call_failure, exception_text, exception_words, is_fatal, place_of
from inferload.log.ring import BLOCK_ROWS, GROWTH_ROWS

if TYPE_CHECKING:
    from inferload.callers.job import Job
    from inferload.callers.python.clock import Clock
    from inferload.log.failures import CallFailure

_NEVER = 2**63 - 1
_LOG_FULL_POLL_S = 0.001


class Run:
    """One run of Python callers, as each of them sees it; made by the thread that starts them."""

    def __init__(self, job: Job, clock: Clock) -> None:
        self.job = job
        self.clock = clock
        self.state = ThreadState.of_this_thread()
        work = job.device_work
        #: The streams that are current where the run is started.
        self.streams = (
            [] if work is None else [torch.accelerator.current_stream(d) for d in work.devices]
        )
        # A call that finishes later than this is the caller's last one; 0 stops all callers.
        self.limit_ns = [_NEVER]
        self.stopped_ns: int | None = None
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
        #: Requests that callers serve in turn, where they do.
        self.queue = self._queue_of(job) if job.queued else None
        self.queue_lock = threading.Lock()
        #: Whoever holds ``watch`` waits by it for the next batch.
        self.waiter = clock.waiter()
        #: Whether calls answer in pieces, so that they are made by ``Answers.around``.
        self.in_pieces = job.target.answers_in_pieces
        self.piece_pool = PiecePool()
        self.next_row = 0
        self.folded_rows = 0
        #: Of tasks of one thread: how many rows they take in a turn, and how many turns there were.
        self.rows_in_turn = self.turns = 0
        #: Calls that are still made are in flight for ever, and write nothing more.
        self.given_up = False
        self.log_was_full = False
        self.disk_full = False
        self.failures: list[CallFailure] = []
        self.first_failure: FirstFailure | None = None
        self._errors: dict[tuple[type, str], int] = {}
        self._classes = Classes()
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def stop(self) -> None:
        """Let each caller finish the call it is in, and no more."""
        # called by signal handlers, so it takes no lock: the line may be just opening
        if self.stopped_ns is None:
            self.stopped_ns = self.clock.now_ns()
        self.limit_ns[0] = 0

    def set_limit(self, limit_ns: int) -> None:
        """Let no call start later than this, unless all are stopped already."""
        self.limit_ns[0] = limit_ns
        if self.stopped_ns is not None:  # perhaps at this very moment
            self.limit_ns[0] = 0

    def end_at(self, rows: int) -> None:
        """Open loop: start no call from row ``rows`` on; those before have the drain time."""
        with self._lock:
            self.end_row = min(rows, self.end_row)
        self.set_limit(self.clock.now_ns() + self.job.drain_ns)

    def answer_in_pieces(self) -> None:
        """A warm-up call gave pieces: have the columns for them.

        Raises:
            PlanError: the disk has no room for them.
        """
        with self._lock:
            self.in_pieces = True
            if not set(PIECES) <= set(self.job.log.optional):
                self.job.log.use(PIECES)

    def _queue_of(self, job: Job) -> RequestQueue:
        work = job.batching
        group_of = [0] * len(job.inputs[0]) if work is None else work.joining.group_of
        most_of = [1] if work is None else work.most_of
        delay_ns = 0 if work is None else work.max_delay_ns
        requests: Requests
        if job.schedule is not None:
            requests = Scheduled(job.schedule)
        elif job.clients is not None:
            requests = OfClients(job.clients)
        else:
            raise AssertionError("batches are of requests that are due beside others")
        forming = Forming(group_of, most_of, delay_ns)
        return RequestQueue(requests, forming, job.order.tolist(), self._admit, self._ends_at)

    def _ends_at(self) -> int:
        """From which row on no request is admitted."""
        return min(self.job.log.rows, self.end_row)

    def _admit(self, row: int, most: int) -> tuple[int, bool | None]:
        """Give the next requests their rows of the log, as ``RequestQueue`` asks for it."""
        log, budget = self.job.log, self.job.budget
        if self.disk_full:
            return 0, False
        count = min(most, self.folded_rows + log.room - row)
        if count <= 0:
            self.log_was_full = True
            return 0, None
        last = row + count
        if log.reserved_rows < min(last, log.room) and not self._reserved(last + GROWTH_ROWS):
            return 0, False
        if budget is not None:
            count = budget.take(count, self.job.callers_in_all)
            if not count:
                return 0, False
        self.next_row = row + count
        return count, True

    def _reserved(self, rows: int) -> bool:
        """Set aside disk space; without it the run ends."""
        try:
            self.job.log.reserve(rows)
        except OSError:
            self.disk_full = True
            self.stop()
            return False
        return True

    def claim(self, in_a_while: int) -> tuple[int, int] | None:
        """The next range of rows for a caller, as ``Claims::claim`` in claims.h."""
        while True:
            claimed = self.claimed(in_a_while)
            if claimed is None or claimed[0] < claimed[1]:
                return claimed
            # past the end: a caller that has ended may have left rows that never finish
            if self.clock.now_ns() > self.limit_ns[0]:
                return None
            time.sleep(_LOG_FULL_POLL_S)  # without the lock: what is in the log must be read first

    def claimed(self, in_a_while: int) -> tuple[int, int] | None:
        """A range of rows, empty while the log is full; ``None`` if the run is over."""
        with self._lock:
            found = self._claimed(in_a_while)
        if found is not None and found[0] == found[1]:
            self.log_was_full = True
        return found

    def _claimed(self, in_a_while: int) -> tuple[int, int] | None:
        log, begin, budget = self.job.log, self.next_row, self.job.budget
        left = min(log.rows, self.end_row) - begin
        if left <= 0 or not self.limit_ns[0]:
            return None
        shared = self.job.calls is not None and not self.job.open_loop and budget is None
        fair = left // (4 * self.job.callers) if shared else in_a_while
        if self.rows_in_turn:  # an equal share keeps tasks busy alike
            fair = min(4 * fair, in_a_while) if shared else in_a_while
        wanted = max(1, min(fair, BLOCK_ROWS, left, log.room - begin % log.room))
        end = min(begin + wanted, self.folded_rows + log.room)
        if budget is not None and begin < end:
            end = begin + budget.take(end - begin, self.job.callers_in_all)
            if end == begin:
                return None
        if log.reserved_rows < min(end, log.room) and not self._reserved(end + GROWTH_ROWS):
            return None
        self.next_row = max(end, begin)
        return begin, end

    def record(
        self, error: BaseException, caller: int, input_number: int, *, warming_up: bool
    ) -> int:
        """Remember an exception; its number among the distinct ones."""
        if is_fatal(exception_words(error)):
            self.stop()  # every further call would fail as well
        with self._lock:
            if self.first_failure is None:
                self.first_failure = FirstFailure(
                    exception=error,
                    place=place_of(error),
                    words=exception_words(error),
                    caller=caller,
                    input=input_number,
                    warming_up=warming_up,
                )
            key = (type(error), exception_text(error))
            if key not in self._errors:
                number = self._classes.number_of(type(error).__name__, len(self.failures))
                if number < len(self.failures):
                    return number
                self._errors[key] = number
                self.failures.append(call_failure(error))
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
