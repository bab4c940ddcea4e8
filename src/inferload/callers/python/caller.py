"""What one Python caller does: warm up, wait at the line, call, with little Python around it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

from inferload.callers.answers.used_up import Answers
from inferload.callers.batching.gathering import Gathering
from inferload.callers.job import BLOCK_NS, STOP_POLL_NS
from inferload.callers.python.batches import BatchCalls
from inferload.callers.python.calling import Calling, run_delay_ns
from inferload.callers.python.clock import MonotonicClock
from inferload.callers.python.devices import caller_devices
from inferload.callers.python.fresh_calls import FreshCalls
from inferload.log.ring import BLOCK_ROWS
from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from numpy.typing import NDArray

    from inferload.callers.device_work import CallerDevices
    from inferload.callers.python.run import Run
    from inferload.plan.arrivals.schedule import Schedule

_STOP_POLL_S = STOP_POLL_NS / NS_PER_S


class PythonCaller(Calling):
    """One caller of a run; :meth:`run` is its thread."""

    def __init__(self, run: Run, number: int) -> None:
        super().__init__(run, number)
        self.answers = Answers(run.job, number, self._now, run.answer_in_pieces, run.piece_pool)
        self._calls: list[Callable[[], Any]] | FreshCalls = []
        self._fresh: FreshCalls | None = None
        self._gathering: Gathering | None = None
        #: What makes calls whose answers are known to be whole.
        self._bare: list[Callable[[], Any]] = []
        self._on: CallerDevices | None = None
        #: Makes the calls of a closed loop in the extension, where it can.
        self._rows: Callable[[int, int], bool] = self._call_rows

    def run(self) -> None:
        """Warm up, wait at the start line, and call until the run is over."""
        run = self._run
        self.hold_to_cpus()
        torch.set_num_threads(run.job.threads_per_call)
        self.threads_set = self.threads = torch.get_num_threads()
        while self.number and run.limit_ns[0] and not run.first_made.wait(_STOP_POLL_S):
            pass
        with run.state.taken_over(), run.clock.caller():
            if run.job.device_work is not None:
                self._on = caller_devices(
                    run.job.device_work, run.streams, self.number, run.job.log, run.clock
                )
            self._make_calls()
            self._warm_up()
            if self.number == 0:  # also where its warm-up was cut short
                run.first_made.set()
            self.threads = torch.get_num_threads()  # a model may set its own
            self.answers.log.make_room()
            run.at_line.release()
            while run.limit_ns[0] and not run.released.wait(_STOP_POLL_S):
                pass
            while run.queue is None and not run.job.open_loop and self._now() < run.start_ns:
                time.sleep(0)  # others of this process get the GIL meanwhile
            if self._on is not None:
                self._on.time_one_in(run.timed_one_in)
            elif self._bare and not run.in_pieces:
                self._calls = self._bare
            self.answers.log.begin()
            before = run_delay_ns()
            if run.queue is not None:
                BatchCalls(
                    run,
                    self.number,
                    self._calls,
                    self._gathering,
                    self._on,
                    self.keeper,
                    self.answers,
                    self._failed,
                ).call_all()
            elif run.job.schedule is None:
                self._call_at_once()
            else:
                self._call_when_due(run.job.schedule)
            self.run_delay_ns = run_delay_ns() - before
            self.threads = torch.get_num_threads()

    def _make_calls(self) -> None:
        job = self._run.job
        if job.fresh_inputs:
            self._calls = self._fresh = FreshCalls(job, self.number, self._wrapped)
            if job.open_loop:
                for number in range(len(self._fresh)):
                    self._fresh.restock(number)
            return
        calls = job.target.calls_of(self.number, job.inputs[self.number])
        if job.batching is not None:
            self._gathering = Gathering(job.batching, self.number, self._now)
            calls = [self._gathering.around(shape, call) for shape, call in enumerate(calls)]
        self._bare = calls
        self._calls = [self._wrapped(number, call) for number, call in enumerate(calls)]
        if job.queued:
            return
        if self._on is None:
            if job.extension is not None and isinstance(self._run.clock, MonotonicClock):
                self._rows = self._in_extension(job.extension)
            return
        if self._on.rows is None:
            return
        rows, limit_ns = self._on.rows, self._run.limit_ns
        functions = [self.answers.around(number, call) for number, call in enumerate(calls)]

        def call_rows(begin: int, end: int) -> bool:
            place = begin % job.log.room
            self.answers.expect(slice(place, place + end - begin))
            return rows(
                begin, end, self.number, job.order, functions, limit_ns, self._failed, self.keeper
            )

        self._rows = call_rows

    def _in_extension(self, extension: ModuleType) -> Callable[[int, int], bool]:
        """What makes the calls of a closed loop as ``_call_rows``, with less between them."""
        job, answers = self._run.job, self.answers
        own = extension.PythonCalls(job.log.buffer, job.log.room)

        def call_rows(begin: int, end: int) -> bool:
            place = begin % job.log.room
            answers.expect(slice(place, place + end - begin))
            found: bool = own.rows(
                begin, end, self.number, job.order, self._calls, answers.whole,
                answers.of_class_unseen, self._run.limit_ns, self._failed, self.keeper,
            )  # fmt: skip
            return found

        return call_rows

    def _wrapped(self, number: int, call: Callable[[], Any]) -> Callable[[], Any]:
        """A call that returns when its answer is whole, and its work on devices finished."""
        call = self.answers.around(number, call)
        return call if self._on is None else self._on.calling(number, call)

    def _warm_up(self) -> None:
        for number, chosen in self._warm_up_inputs():
            call = self._calls[chosen]
            if self._gathering is not None:
                self._gathering.begin_example(chosen)
            failure: BaseException | None = None
            started = self._now()
            try:
                call()
            except BaseException as error:  # noqa: BLE001 - SystemExit of a model, too
                self._run.end_in_fork(error)
                failure = error
            self._has_warmed(number, chosen, started, failure)

    def _call_at_once(self) -> None:
        """Closed loop: ranges of rows, one after another."""
        in_a_while = 1
        while claimed := self._run.claim(in_a_while):
            started = self._now()
            if not self._rows(*claimed):
                return
            # callers in one process take turns, so a call lasts as long as all of theirs
            fast = self._now() - started < BLOCK_NS * self._run.job.callers
            in_a_while = min(2 * in_a_while, BLOCK_ROWS) if fast else max(in_a_while // 2, 1)

    def _call_rows(self, begin: int, end: int) -> bool:
        """Make the calls of these rows; whether the caller should go on after them."""
        inputs, own = self._begin_rows(begin, end)
        try:
            return self._call_loop(inputs, own)
        finally:
            # a closed loop's calls are due when they start
            own["scheduled_ns"][:] = own["started_ns"]

    def _call_loop(self, inputs: Sequence[int], own: dict[str, NDArray[Any]]) -> bool:
        # Every name is a local and every object is made before: 0.25 us of harness a call.
        whole, unseen = self.answers.whole, self.answers.of_class_unseen
        started, finished = own["started_ns"].data, own["finished_ns"].data
        errors, calls, row = own["error"].data, self._calls, 0
        now, limit_ns = self._now, self._run.limit_ns
        kept_row = self.keeper.calls_until_next
        for number in inputs:
            call = calls[number]
            started[row] = now()
            try:
                output = call()
                if output.__class__ not in whole:
                    output = unseen(output)
            except BaseException as error:  # noqa: BLE001 - SystemExit of a model, too
                end = now()
                errors[row] = self._failed(error, number)
                finished[row] = end
            else:
                end = finished[row] = now()
                if row >= kept_row:
                    kept_row = row + self.keeper.keep(number, output)
                output = None  # let go of after the stamp
            if end > limit_ns[0]:
                return False
            row += 1
        self.keeper.calls_until_next = kept_row - row
        return True

    def _call_when_due(self, schedule: Schedule) -> None:
        """Open loop: the next row whenever free, when it is due."""
        run, now, keeper = self._run, self._now, self.keeper
        job, watch, limit_ns = run.job, run.watch, run.limit_ns
        times, size, period = schedule.times_ns.data, len(schedule.times_ns), schedule.period_ns
        columns = {name: column.data for name, column in job.log.columns.items()}
        scheduled, started = columns["scheduled_ns"], columns["started_ns"]
        finished, errors = columns["finished_ns"], columns["error"]
        caller_of, input_of, room = columns["caller"], columns["input"], job.log.room
        order, start, fresh = job.order.tolist(), run.start_ns, self._fresh
        answers = self.answers
        while True:
            # whoever holds this watches for the next due call; free callers wait for it in turn
            with watch:
                claimed = run.claim(1)
                if claimed is None:
                    return
                row = claimed[0]
                number, place = order[row % len(order)], row % room
                due = start + times[row % size] + row // size * period
                caller_of[place], input_of[place], errors[place] = self.number, number, -1
                scheduled[place] = due
                call = self._calls[number]
                if not self._wait_until(due, row):
                    return
            self._expect(slice(place, place + 1))
            started[place] = now()
            try:
                output = call()
                if output.__class__ not in answers.whole:
                    output = answers.of_class_unseen(output)
            except BaseException as error:  # noqa: BLE001 - SystemExit of a model, too
                end = now()
                errors[place] = self._failed(error, number)
                finished[place] = end
            else:
                finished[place] = now()
                if keeper.calls_until_next <= 0:
                    keeper.calls_until_next = keeper.keep(number, output)
                output = None
            keeper.calls_until_next -= 1
            if not limit_ns[0]:
                return
            if fresh is not None:
                fresh.restock(number)

    def _wait_until(self, due: int, row: int) -> bool:
        """Wait until a call is due; false if the run ends before.

        A call that was due before it was taken has queued, and is not begun after the drain limit.
        """
        run, now, clock = self._run, self._now, self._run.clock
        if (begun := now()) >= due:
            return begun <= run.limit_ns[0]
        while (left := due - now()) > 0:
            if not run.limit_ns[0] or row >= run.end_row:
                return False
            sleep_ns = left - clock.spin_ns
            # in the last stretch other callers get the GIL between two looks at the clock
            clock.sleep(min(sleep_ns, STOP_POLL_NS) if sleep_ns > 0 else 0)
        return bool(run.limit_ns[0])
