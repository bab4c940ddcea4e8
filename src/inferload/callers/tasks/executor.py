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

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferload.callers.job import Job
    from inferload.callers.outcome import Outcome

    NewLoop = Callable[[], asyncio.AbstractEventLoop]


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
        self._tasks = [TaskCaller(run, number) for number in range(job.callers)]
        super().__init__(run, self._tasks)
        self._loop = new_loop()
        self._by_kernel = isinstance(clock, MonotonicClock)
        self._timer: LoopTimer | None = None
        self._go = asyncio.Event()
        self._all: list[asyncio.Task[None]] = []
        self._lag = LoopLag(run)
        self._start([(self._run_loop, "event-loop")])

    def release(self, at_ns: int | None = None) -> int:
        """Let all callers leave the start line; the time of it, monotonic nanoseconds."""
        start = super().release(at_ns)
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
        finally:
            run.stop()
            run.first_made.set()
            for _ in self._tasks:  # whoever waits for them hears of the end
                run.at_line.release()
            _close(loop)
            self._ended.release()

    async def _main(self) -> None:
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
            raise
        except BaseException as error:  # noqa: BLE001 - a caller that ends must say why
            self._has_failed(caller, error)
        finally:
            self._run.first_made.set()


def _close(loop: asyncio.AbstractEventLoop) -> None:
    """End what the model has left in the loop, and the loop."""
    try:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
