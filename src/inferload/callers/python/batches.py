"""What a Python caller does with a queue: takes a batch, calls once, writes the rows of all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from inferload.callers.job import STOP_POLL_NS
from inferload.log.calls import DEVICE_STAGES
from inferload.log.failures import exception_words, is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferload.callers.answers.kept_outputs import Keeper
    from inferload.callers.answers.used_up import Answers
    from inferload.callers.batching.gathering import Gathering
    from inferload.callers.batching.queue import Batch, RequestQueue
    from inferload.callers.device_work import CallerDevices
    from inferload.callers.python.fresh_calls import FreshCalls
    from inferload.callers.python.run import Run


class BatchCalls:
    """The batches of one caller.

    ``calls[shape]`` calls with what was put together in a shape; without ``gathering`` each request
    is called alone, with its own input. ``failed`` records an exception.
    """

    def __init__(
        self,
        run: Run,
        number: int,
        calls: Sequence[Callable[[], Any]] | FreshCalls,
        gathering: Gathering | None,
        on: CallerDevices | None,
        keeper: Keeper,
        answers: Answers,
        failed: Callable[[BaseException, int], int],
    ) -> None:
        self._run = run
        self._number = number
        self._calls = calls
        self._gathering = gathering
        self._on = on
        self._keeper = keeper
        self._answers = answers
        self._failed = failed
        self._columns = run.job.log.columns
        self._stages = [n for n in run.job.log.optional if n in DEVICE_STAGES]

    def call_all(self) -> None:
        """Serve the queue until the run is over."""
        queue, limit_ns, finished = self._run.queue, self._run.limit_ns, self._run.start_ns
        while queue is not None and (batch := self._next(queue, finished)) is not None:
            finished = self._call(batch)
            self._answered(queue, len(batch.requests), finished)
            if not limit_ns[0]:
                return

    def _next(self, queue: RequestQueue, free_ns: int) -> Batch | None:
        """The next batch, when it is ready; ``None``: the run is over."""
        run = self._run
        with run.queue_lock:
            queue.free(free_ns)
        now, clock, waited = run.clock.now_ns, run.clock, False
        # whoever holds this forms the next batch; free callers wait for it in turn
        with run.watch:
            while run.limit_ns[0]:
                now_ns = now()
                with run.queue_lock:
                    batch = queue.take(now_ns)
                    until = None if batch is not None else queue.look_again_ns(now_ns)
                    over = until is None and (run.job.clients is None or queue.over)
                # what was due before it was taken has queued, and is not begun after the limit
                late = now_ns > run.limit_ns[0] and (not waited or run.job.schedule is None)
                if late or batch is not None or over:
                    return None if late else batch
                waited = True
                left = STOP_POLL_NS if until is None else until - now_ns - clock.spin_ns
                run.waiter.wait(min(left, STOP_POLL_NS) if left > 0 else 0)
        return None

    def _answered(self, queue: RequestQueue, count: int, finished_ns: int) -> None:
        run = self._run
        if run.job.clients is not None:
            with run.queue_lock:
                queue.returned(count, finished_ns)
            run.waiter.wake()

    def _call(self, batch: Batch) -> int:
        """Call the model once, and write the rows of all requests; when it finished."""
        now, columns, gathering = self._run.clock.now_ns, self._columns, self._gathering
        requests, room = batch.requests, self._run.job.log.room
        rows, dues, inputs = zip(*requests, strict=True)
        places: Any = np.array(rows) % room
        if places[-1] - places[0] == len(rows) - 1:  # side by side
            places = slice(int(places[0]), int(places[-1]) + 1)
        columns["caller"][places] = self._number
        columns["input"][places] = inputs
        columns["error"][places] = -1
        columns["scheduled_ns"][places] = dues
        shape = inputs[0]
        if gathering is not None:
            columns["batch"][places] = batch.number
            columns["batch_size"][places] = len(rows)
            shape = gathering.choose(inputs)
            columns["padding_ppm"][places] = gathering.padding_ppm(shape)
        call = self._calls[shape]
        first = rows[0] % room
        self._answers.expect(slice(first, first + 1))
        if self._on is not None:
            self._on.go_to(first)
        started = now()
        columns["started_ns"][places] = started
        pieces = None
        try:
            if gathering is not None and gathering.before:
                gathering.gather(shape)
            output = call()
            if output.__class__ not in self._answers.whole:
                output = self._answers.of_class_unseen(output)
            if gathering is not None:
                pieces = gathering.taken_apart(output, shape)
            finished = now()
        except BaseException as error:  # noqa: BLE001 - SystemExit of a model, too
            finished = now()
            columns["error"][places] = self._failed(error, inputs[0])
            self._make_smaller(error, len(rows))
            output = None
        self._write_stages(batch, places, first, started)
        columns["finished_ns"][places] = finished
        if output is not None or pieces is not None:
            self._keep(inputs, output, pieces)
        return finished

    def _make_smaller(self, error: BaseException, requests: int) -> None:
        """Where there was no memory for a batch, the next ones have half of its requests."""
        run = self._run
        if run.queue is not None and requests > 1 and is_out_of_memory(exception_words(error)):
            with run.queue_lock:
                run.queue.limit_to(requests // 2)

    def _write_stages(self, batch: Batch, places: Any, first: int, started: int) -> None:
        columns = self._columns
        if self._gathering is not None:
            columns["gather_ns"][places] = self._gathering.took_ns
            waits_from = np.maximum(columns["scheduled_ns"][places], batch.free_ns)
            until = np.maximum(waits_from, min(max(batch.ready_ns, batch.free_ns), started))
            columns["hold_ns"][places] = until - waits_from
            columns["late_ns"][places] = started - until
        for name in self._stages:
            column = self._columns[name]
            column[places] = column[first]

    def _keep(self, inputs: Sequence[int], output: Any, pieces: Any) -> None:
        """Keep copies of what some of the requests got."""
        keeper, count, place = self._keeper, len(inputs), 0
        while (place := place + max(keeper.calls_until_next, 0)) < count:
            own = output if pieces is None else pieces.of(place)
            keeper.calls_until_next = keeper.keep(inputs[place], own)
        keeper.calls_until_next = place - count
