"""What every Python caller has, be it a thread or a task: what it leaves behind, how rows begin."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inferload.callers.answers.kept_outputs import Keeper
from inferload.callers.job import FIRST_CALLS
from inferload.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from inferload.callers.answers.used_up import Answers
    from inferload.callers.device_work import CallerDevices
    from inferload.callers.python.run import Run
    from inferload.log.arrays import Int32s


class Calling:
    """One caller of a run, by its number."""

    answers: Answers

    def __init__(self, run: Run, number: int) -> None:
        self.number = number
        self.first_calls_ns: list[int] = []
        self.run_delay_ns = 0
        self.cpus: list[int] = []
        self.threads_set = self.threads = 0
        #: Warm-up calls made so far.
        self.warmed = 0
        self.keeper = Keeper(run.job.kept_outputs, run.job.target)
        self._run = run
        self._now = run.clock.now_ns
        self._on: CallerDevices | None = None
        self._warm_ns = 0

    def hold_to_cpus(self) -> None:
        """Hold the thread that this is called in to the caller's cores, where it has some."""
        # before anything else: the intra-op threads that a caller starts inherit its cores
        own = self._run.job.cpus
        if hasattr(os, "sched_setaffinity"):
            if own and own[self.number]:
                os.sched_setaffinity(0, own[self.number])
            self.cpus = sorted(os.sched_getaffinity(0))

    def _warm_up_inputs(self) -> Iterator[tuple[int, int]]:
        """The number of each warm-up call, and of its input, until they are enough."""
        job, limit_ns = self._run.job, self._run.job.warmup_limit_ns
        order = job.warmup_order or range(len(job.inputs[self.number]))
        for number in range(max(job.warmup_calls, 0 if self.number else job.first_calls)):
            late = limit_ns is not None and number > 1 and self._now() - self._warm_ns > limit_ns
            if late or not self._run.limit_ns[0]:
                return
            yield number, order[number % len(order)]

    def _has_warmed(
        self, number: int, chosen: int, started_ns: int, failure: BaseException | None
    ) -> None:
        """Note a warm-up call that has ended, and end the run where its failure does."""
        run, now_ns = self._run, self._now()
        self.warmed += 1
        if number < FIRST_CALLS:
            self.first_calls_ns.append(now_ns - started_ns)
        # When errors are recorded, only those of measured calls count.
        if failure is not None and self._ends_run(failure):
            run.record(failure, self.number, chosen, warming_up=True)
            run.stop()
        if number + 1 == run.alone:
            run.first_made.set()
        # the first may have compiled, and the second, of another shape
        self._warm_ns = self._warm_ns or now_ns

    def _begin_rows(self, begin: int, end: int) -> tuple[list[int], dict[str, NDArray[Any]]]:
        """The inputs of the calls of these rows, and their columns, as far as known filled in."""
        span, inputs = self._filled(begin, end)
        own = {name: column[span] for name, column in self._run.job.log.columns.items()}
        return inputs.tolist(), own

    def _filled(self, begin: int, end: int) -> tuple[slice, Int32s]:
        """Where these rows are in the log, which is filled in as far as known, and their inputs."""
        log, order = self._run.job.log, self._run.job.order
        drawn, place = begin % len(order), begin % log.room
        inputs = order[drawn : drawn + end - begin]
        if len(inputs) < end - begin:
            inputs = order[np.arange(begin, end) % len(order)]
        span = slice(place, place + end - begin)
        log.columns["caller"][span] = self.number
        log.columns["input"][span] = inputs
        log.columns["error"][span] = -1
        self._expect(span)
        return span, inputs

    def _expect(self, places: slice) -> None:
        """The next calls are those of the rows at these places of the log."""
        self.answers.expect(places)
        if self._on is not None:
            self._on.go_to(places.start)

    def _failed(self, error: BaseException, number: int) -> int:
        self._run.end_in_fork(error)
        if self._ends_run(error):
            self._run.stop()
        return self._run.record(error, self.number, number, warming_up=False)

    def _ends_run(self, error: BaseException) -> bool:
        """Whether a run ends by an exception: calls that do no work are never counted."""
        return self._run.job.stop_on_error or isinstance(error, PlanError)


def run_delay_ns() -> int:
    """How long this thread has stood in a run queue (schedstat); 0 where that is not known."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0
