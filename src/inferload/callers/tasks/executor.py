"""Callers that are tasks of one event loop: how the loop is started, opened and ended."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import torch

from inferload.callers.python.clock import Clock, MonotonicClock
from inferload.callers.python.run import Run
from inferload.callers.python.running import RunningCallers
from inferload.callers.tasks.caller import TaskCaller
from inferload.callers.tasks.lag import LoopLag
from inferload.callers.tasks.loops import LoopTimer, new_loop
from inferload.callers.tasks.turns import LoopTurns
from inferload.errors import PlanError
from inferload.log.failures import exception_words

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferload.callers.job import Job
    from inferload.callers.outcome import Outcome

    NewLoop = Callable[[], asyncio.AbstractEventLoop]


# Tasks that a model has left in the loop, and that will not be cancelled, have so long to end.
_PATIENCE_S = 1.0


class TasksExecutor:
    """Runs callers as tasks of one event loop, in a thread of its own."""

    name = "async"

    def __init__(self, clock: Clock | None = None, loop: NewLoop = new_loop) -> None:
        self._clock = clock or MonotonicClock()
        self._new_loop = loop

    def start(self, job: Job) -> RunningTasks:
        """Start the loop, with a task a caller."""
        return RunningTasks(job, self._clock, self._new_loop)


class RunningTasks(RunningCallers):
    """Tasks that have been started."""

    def __init__(self, job: Job, clock: Clock, new_loop: NewLoop) -> None:
        run = Run(job, clock)
        run.rows_in_turn = 1
        self._loop = new_loop()
        turns = LoopTurns(self._loop) if job.target.servers() else None  # else nothing is sent
        self._tasks = [TaskCaller(run, number, turns) for number in range(job.callers)]
        super().__init__(run, self._tasks)
        self._by_kernel = isinstance(clock, MonotonicClock)
        self._timer: LoopTimer | None = None
        self._go = asyncio.Event()
        self._all: list[asyncio.Task[None]] = []
        self._lag = LoopLag(run)
        self._start([(self._run_loop, "event-loop")])

    def release(self, at_ns: int | None = None) -> int:
        """Let all callers leave the start line; the time of it, monotonic nanoseconds."""
        start = super().release(at_ns)
        self._run.job.target.begin()
        self._in_loop(self._go.set)
        return start

    def stop(self) -> None:
        """Let each caller finish the call it is in, and no more."""
        super().stop()
        self._in_loop(self._wake)

    def end_at(self, rows: int) -> None:
        """Open loop: start no call from row ``rows`` on; those before have the drain time."""
        super().end_at(rows)
        self._in_loop(self._wake)

    def give_up(self) -> None:
        """Cancel the calls that are still made: nothing of them goes on."""
        self._run.given_up = True
        self._in_loop(lambda: [task.cancel() for task in self._all])

    def outcome(self) -> Outcome:
        """What is known so far; complete after ``join``."""
        return self._lag.with_lag(super().outcome())

    def _in_loop(self, do: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(do)

    def _wake(self) -> None:
        self._go.set()
        if self._timer is not None:
            self._timer.wake()

    def _run_loop(self) -> None:
        run, loop = self._run, self._loop
        asyncio.set_event_loop(loop)
        try:
            for caller in self._tasks:
                caller.hold_to_cpus()
            torch.set_num_threads(run.job.threads_per_call)
            with run.state.taken_over():
                loop.run_until_complete(self._main())
        except BaseException as error:  # noqa: BLE001 - what a task of the model's own raised
            if not run.given_up:
                run.record(self._ended_by(error), 0, 0, warming_up=run.start_ns == 0)
        finally:
            run.stop()
            run.first_made.set()
            for _ in self._tasks:  # whoever waits for them hears of the end
                run.at_line.release()
            try:
                _close(loop)
            finally:
                self._ended.release()

    def _ended_by(self, error: BaseException) -> PlanError:
        """What ended the loop that callers are tasks of."""
        return PlanError(
            f"{self._run.job.target.name} ended the event loop that it was called in: "
            f"{exception_words(error)}. A task of its own that raises SystemExit or "
            "KeyboardInterrupt does so, and loop.stop()"
        )

    async def _main(self) -> None:
        """All callers, with what their target needs in the loop."""
        job = self._run.job
        async with job.target.while_awaited(job.callers):
            await self._call()

    async def _call(self) -> None:
        """All callers, and the beat of the loop beside them."""
        loop = asyncio.get_running_loop()
        self._timer = timer = LoopTimer(loop, self._run.clock, by_kernel=self._by_kernel)
        turn = asyncio.Lock()
        self._all = [
            loop.create_task(self._calling(caller, turn, timer), name=f"caller-{caller.number}")
            for caller in self._tasks
        ]
        if self._run.stopped_ns is not None:  # while the loop was being started
            self._wake()
        beat = loop.create_task(self._lag.beat(self._go))
        try:
            await asyncio.wait(self._all)
        finally:
            beat.cancel()
            timer.close()

    async def _calling(self, caller: TaskCaller, turn: asyncio.Lock, timer: LoopTimer) -> None:
        try:
            await caller.run(self._go, turn, timer)
        except asyncio.CancelledError:
            self._run.stop()
            if not self._run.given_up:
                name = self._run.job.target.name
                error = PlanError(
                    f"a call of {name} cancelled the task that it was made in, with which its "
                    "caller ends: have it cancel tasks of its own"
                )
                self._run.record(error, caller.number, 0, warming_up=False)
            self._run.at_line.release()
            raise
        except BaseException as error:  # noqa: BLE001 - a caller that ends must say why
            self._has_failed(caller, error)
        finally:
            self._run.first_made.set()


def _close(loop: asyncio.AbstractEventLoop) -> None:
    """End what the model has left in the loop, and the loop; who does not end is not told of."""
    loop.set_exception_handler(lambda *_: None)
    try:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=_PATIENCE_S))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        with suppress(OSError):  # uvloop's, while a connection over TLS is still taking its leave
            loop.close()
