"""What a call that does nothing takes: the part of every figure that is the harness itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from inferload.executors.base import Job
from inferload.inputs import CallInput
from inferload.log_file import LogFile
from inferload.targets.base import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from inferload.executors.base import Executor

CALLS = 2_000


class NoOpTarget(Target):
    """Does nothing, in Python or natively."""

    form = "callable"

    def python_callable(self) -> Callable[..., Any]:
        """A function that returns at once."""
        return _nothing

    def native_callable(self, extension: ModuleType, inputs: Sequence[Sequence[CallInput]]) -> Any:
        """A call of no instructions."""
        return extension.NoModel(len(inputs))


def floor_ms(executor: Executor, threads_per_call: int) -> float:
    """The median service time of a call that does nothing, by one caller, in milliseconds."""
    log = LogFile(CALLS)
    try:
        job = Job(
            target=NoOpTarget("no-op"),
            inputs=[[CallInput()]],
            order=np.zeros(1, np.int32),
            calls=CALLS,
            duration_ns=None,
            warmup_calls=10,
            threads_per_call=threads_per_call,
            stop_on_error=True,
            log=log,
        )
        running = executor.start(job)
        while not running.wait_ready(1.0):
            pass
        start_ns = running.release()
        running.join()
        found = log.hand_over(start_ns, 0, running.claimed_rows(), ())
        return float(np.median(found.service_ns)) / 1e6
    finally:
        log.close()


def _nothing() -> None:
    pass
