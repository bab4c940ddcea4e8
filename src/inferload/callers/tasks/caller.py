"""What one task does: warm up, wait at the line, await one call after another."""

from __future__ import annotations

import asyncio
from itertools import repeat
from typing import TYPE_CHECKING, Any

import torch

from inferload.callers.job import BLOCK_NS, STOP_POLL_NS
from inferload.callers.python.calling import Calling
from inferload.callers.python.fresh_calls import FreshCalls
from inferload.callers.tasks.awaiting import AwaitedAnswers
from inferload.callers.tasks.time_limit import limited
from inferload.log.ring import BLOCK_ROWS
from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from inferload.callers.batching.queue import Batch, RequestQueue
    from inferload.callers.python.run import Run
    from inferload.callers.tasks.loops import LoopTimer
    from inferload.callers.tasks.turns import LoopTurns
    from inferload.log.arrays import Int32s
    from inferload.plan.arrivals.schedule import Schedule

    Calls = list[Callable[[], Awaitable[Any]]] | FreshCalls

# How soon a task looks again for what has no event.
_POLL_S = 0.001
_LOOKING_NS = 2_000_000


class TaskCaller(Calling):
    """One caller of a run; :meth:`run` is its task.

    Of all tasks of a loop the one that has the ``turn`` watches, by the ``timer``, for the next due
    call of an open loop. ``turns``: calls of a closed loop begin one in each.
    """

    def __init__(self, run: Run, number: int, turns: LoopTurns | None = None) -> None:
        super().__init__(run, number)
        self._turns = turns
        self.answers: AwaitedAnswers = AwaitedAnswers(
            run.job, number, self._now, run.answer_in_pieces, run.piece_pool
        )
        self._calls: Calls = []
        self._fresh: FreshCalls | None = None
        self._columns: dict[str, Any] = {}
        self._closed = run.job.schedule is None and run.queue is None

    async def run(self, go: asyncio.Event, turn: asyncio.Lock, timer: LoopTimer) -> None:
        """Warm up, wait at the start line, and call until the run is over."""
        run = self._run
        self.threads_set = self.threads = torch.get_num_threads()
        first_made = run.first_made.is_set  # an event of threads, which tells no task
        while self.number and run.limit_ns[0] and not first_made():  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)
        self._make_calls()
        await self._warm_up()
        if self.number == 0:  # also where its warm-up was cut short
            run.first_made.set()
        self.threads = torch.get_num_threads()  # a model may set its own
        self.answers.log.make_room()
        run.at_line.release()
        await go.wait()
        if run.queue is None and not run.job.open_loop:
            await self._start_line()
        self.answers.log.begin()
        self._columns = {name: column.data for name, column in run.job.log.columns.items()}
        self._make_calls()
        if run.queue is not None:
            await self._serve(run.queue, turn, timer)
        elif run.job.schedule is None:
            await self._call_at_once()
        else:
            await self._call_when_due(run.job.schedule, turn, timer)
        self.threads = torch.get_num_threads()

    async def _start_line(self) -> None:
        """Wait until callers may leave it: up to 2 ms before by the loop, then by looking."""
        run = self._run
        while run.limit_ns[0] and (left := run.start_ns - self._now()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(max(left - _LOOKING_NS, 0) / NS_PER_S)

    def _make_calls(self) -> None:
        """What awaits one call for each input; bare coroutines where their answers are whole."""
        job = self._run.job
        if job.fresh_inputs:
            self._calls = self._fresh = FreshCalls(job, self.number, self._wrapped)
            return
        calls = job.target.calls_of(self.number, job.inputs[self.number])
        whole = bool(self.answers.whole) and not self._run.in_pieces
        if whole and job.target.is_coroutine and job.timeout_ns is None and not job.device_work:
            self._calls = calls
        else:
            self._calls = [self._wrapped(number, call) for number, call in enumerate(calls)]

    def _wrapped(self, number: int, call: Callable[[], Any]) -> Callable[[], Awaitable[Any]]:
        awaiting = self.answers.awaiting(number, call)
        timeout_ns = self._run.job.timeout_ns
        return awaiting if timeout_ns is None else limited(awaiting, timeout_ns)

    async def _warm_up(self) -> None:
        for number, chosen in self._warm_up_inputs():
            call = self._calls[chosen]
            failure: BaseException | None = None
            started = self._now()
            try:
                await call()
            except BaseException as error:  # noqa: BLE001 - SystemExit of a model, too
                self._run.end_in_fork(error)
                failure = self._own(error)
            self._has_warmed(number, chosen, started, failure)

    async def _claim(self, in_a_while: int) -> tuple[int, int] | None:
        """As ``Run.claim``, without holding up the loop."""
        run = self._run
        while True:
            claimed = run.claimed(in_a_while)
            if claimed is None or claimed[0] < claimed[1]:
                return claimed
            if self._now() > run.limit_ns[0]:
                return None
            await asyncio.sleep(_POLL_S)

    async def _call_at_once(self) -> None:
        """Closed loop: ranges of rows, or one at a time; between them others have their turn."""
        run = self._run
        while claimed := await self._next_rows():
            begun, run.turns = self._now(), run.turns + 1
            turn, row = run.turns, claimed[0]
            if claimed[1] - row == 1:  # 2 us a call, where a range takes 10
                number = int(run.job.order[row % len(run.job.order)])
                ended = await self._call_row(row, number, self._begin_row(row, number))
                if ended > run.limit_ns[0]:
                    return
            elif not await self._call_rows(*claimed):
                return
            # what a task has learned of its calls is true of all
            fast, rows = self._now() - begun < BLOCK_NS, run.rows_in_turn
            run.rows_in_turn = min(2 * rows, BLOCK_ROWS) if fast else max(rows // 2, 1)
            if run.turns == turn:  # the call has not let others have their turn
                await asyncio.sleep(0)

    async def _next_rows(self) -> tuple[int, int] | None:
        if self._turns is None:
            return await self._claim(self._run.rows_in_turn)
        await self._turns.one()
        return await self._claim(1)

    async def _call_rows(self, begin: int, end: int) -> bool:
        """Make the calls of these rows; whether the caller should go on after them."""
        span, inputs = self._filled(begin, end)
        try:
            return await self._call_loop(inputs, span)
        finally:
            # a closed loop's calls are due when they start
            columns = self._run.job.log.columns
            columns["scheduled_ns"][span] = columns["started_ns"][span]

    async def _call_loop(self, inputs: Int32s, span: slice) -> bool:
        # as that of threads, and 1.2x of a loop by hand that stamps twice
        calls = self._calls
        single = len(calls) == 1 and self._fresh is None  # a look-up less: 18 ns of 230
        taken = repeat(calls[0], len(inputs)) if single else map(calls.__getitem__, inputs.tolist())
        whole, unseen = self.answers.whole, self.answers.of_class_unseen_awaiting
        started, finished, errors = (
            self._columns[name][span] for name in ("started_ns", "finished_ns", "error")
        )
        now, limit_ns, kept_row = self._now, self._run.limit_ns, self.keeper.calls_until_next
        for row, call in enumerate(taken):
            started[row] = now()
            try:
                output = await call()
                if output.__class__ not in whole:
                    output = await unseen(output)
            except BaseException as error:  # noqa: BLE001 - SystemExit of a model, too
                end = now()
                errors[row] = self._failed(self._own(error), int(inputs[row]))
                finished[row] = end
            else:
                end = finished[row] = now()
                if row >= kept_row:
                    kept_row = row + self.keeper.keep(int(inputs[row]), output)
                output = None  # let go of after the stamp
            if end > limit_ns[0]:
                return False
        self.keeper.calls_until_next = kept_row - len(inputs)
        return True

    async def _call_when_due(
        self, schedule: Schedule, turn: asyncio.Lock, timer: LoopTimer
    ) -> None:
        """Open loop: the next row whenever free, when it is due."""
        run, order = self._run, self._run.job.order
        while True:
            # whose turn it is watches for the next due call; free callers wait for it in turn
            async with turn:
                claimed = await self._claim(1)
                if claimed is None:
                    return
                row = claimed[0]
                number, due = int(order[row % len(order)]), run.start_ns + schedule.due_ns(row)
                call = self._begin_row(row, number, due)
                if not await self._is_due(due, row, timer):
                    return
            run.turns = turns = run.turns + 1
            await self._call_row(row, number, call)
            if not run.limit_ns[0]:
                return
            if run.turns == turns:  # a call that has not let others have their turn
                await asyncio.sleep(0)

    async def _serve(self, queue: RequestQueue, turn: asyncio.Lock, timer: LoopTimer) -> None:
        """Closed loop of clients: the next request in their queue whenever free."""
        run, finished = self._run, self._run.start_ns
        while (batch := await self._next(queue, finished, turn, timer)) is not None:
            (request,) = batch.requests
            call = self._begin_row(request.row, request.input, request.due_ns)
            finished = await self._call_row(request.row, request.input, call)
            queue.returned(1, finished)
            timer.wake()  # whose turn it is looks again: a client may ask sooner than was known
            if not run.limit_ns[0]:
                return

    async def _next(
        self, queue: RequestQueue, free_ns: int, turn: asyncio.Lock, timer: LoopTimer
    ) -> Batch | None:
        """The next request, when it is due, as ``BatchCalls._next``; ``None``: the run is over."""
        run = self._run
        queue.free(free_ns)
        async with turn:
            waited = False
            while run.limit_ns[0]:
                now_ns = self._now()
                batch = queue.take(now_ns)
                until = None if batch is not None else queue.look_again_ns(now_ns)
                if now_ns > run.limit_ns[0] and not waited:
                    return None
                if batch is not None or (until is None and queue.over):
                    return batch
                waited = True
                await timer.until(now_ns + STOP_POLL_NS if until is None else until)
        return None

    def _begin_row(
        self, row: int, number: int, due: int | None = None
    ) -> Callable[[], Awaitable[Any]]:
        """Write what is known of a call before it starts; what makes it."""
        columns, place = self._columns, row % self._run.job.log.room
        columns["caller"][place], columns["input"][place] = self.number, number
        columns["error"][place] = -1
        if due is not None:
            columns["scheduled_ns"][place] = due
        if self._run.in_pieces:
            self.answers.expect(slice(place, place + 1))
        return self._calls[number]

    async def _call_row(self, row: int, number: int, call: Callable[[], Awaitable[Any]]) -> int:
        """Make the call of a row, and write it; when it finished."""
        answers, keeper, now = self.answers, self.keeper, self._now
        columns, place = self._columns, row % self._run.job.log.room
        columns["started_ns"][place] = started = now()
        if self._closed:  # calls are due when they start
            columns["scheduled_ns"][place] = started
        try:
            output = await call()
            if output.__class__ not in answers.whole:
                output = await answers.of_class_unseen_awaiting(output)
        except BaseException as error:  # noqa: BLE001 - SystemExit of a model, too
            finished = now()
            columns["error"][place] = self._failed(self._own(error), number)
            columns["finished_ns"][place] = finished
        else:
            columns["finished_ns"][place] = finished = now()
            if keeper.calls_until_next <= 0:
                keeper.calls_until_next = keeper.keep(number, output)
        keeper.calls_until_next -= 1
        return finished

    async def _is_due(self, due: int, row: int, timer: LoopTimer) -> bool:
        """Wait until a call is due, as ``PythonCaller._wait_until``."""
        run = self._run
        if (begun := self._now()) >= due:
            return begun <= run.limit_ns[0]
        while self._now() < due:
            if not run.limit_ns[0] or row >= run.end_row:
                return False
            await timer.until(due)
        return bool(run.limit_ns[0])

    def _own(self, error: BaseException) -> BaseException:
        """What the call raised by itself; a call that was given up is in flight for ever.

        Raises:
            CancelledError: it was given up, and nobody reads what is written of it.
        """
        if self._run.given_up:
            raise error
        return error
