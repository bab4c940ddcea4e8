"""Python callers, one thread each: how they are started."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from inferload.callers.python.caller import PythonCaller
from inferload.callers.python.clock import Clock, MonotonicClock
from inferload.callers.python.run import Run
from inferload.callers.python.running import RunningCallers

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


class RunningThreads(RunningCallers):
    """Python callers that have been started."""

    def __init__(self, job: Job, clock: Clock) -> None:
        run = Run(job, clock)
        callers = [PythonCaller(run, number) for number in range(job.callers)]
        super().__init__(run, callers)
        self._start([(partial(self._calling, one), f"caller-{one.number}") for one in callers])

    def _calling(self, caller: PythonCaller) -> None:
        try:
            caller.run()
        except BaseException as error:  # noqa: BLE001 - a caller that ends must say why
            self._has_failed(caller, error)
        finally:
            self._run.first_made.set()
            self._ended.release()
