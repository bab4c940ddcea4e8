"""Drive one job through an executor: start, open the line, watch, stop at a signal, collect."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from inferload.disturbances import DisturbanceWatch
from inferload.errors import PlanError
from inferload.records import RunWarning
from inferload.targets.eager import compiled_graphs
from inferload.trace import tracing
from inferload.watcher import POLL_S, Watcher

if TYPE_CHECKING:
    from pathlib import Path

    from inferload.call_log import CallLog
    from inferload.disturbances import Disturbances
    from inferload.executors.base import Executor, Job, Outcome
    from inferload.signals import StopSignals
    from inferload.stopping import StopByPrecision


class Observer(Protocol):
    """What a run tells while it goes on."""

    def stage(self, text: str) -> None:
        """The run has come to another stage."""

    def progress(self, finished_calls: int, elapsed_s: float) -> None:
        """So many calls have finished; called every 0.1 s while calls are measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What a job that has ended left behind.

    ``due_calls``: open loop, how many calls were due until it ended. ``stopped_s``: when it was
    stopped before its end, from the start line. ``abandoned``: calls were given up that had not
    returned.
    """

    outcome: Outcome
    log: CallLog
    open_s: float
    recompiled_graphs: int
    warnings: list[RunWarning]
    abandoned: bool
    watcher: Watcher
    due_calls: int
    stopped_s: float | None
    disturbances: Disturbances


def execute(
    executor: Executor,
    job: Job,
    observer: Observer,
    trace: Path | None,
    signals: StopSignals,
    rule: StopByPrecision | None = None,
) -> Execution:
    """Run a job. A first signal stops the callers, a second one gives up the calls they are in.

    So does the drain limit of an open loop.

    Raises:
        PlanError: the machine would not start so many callers.
    """
    observer.stage(f"warming up {job.callers} caller{'s' * (job.callers > 1)}")
    opened = time.perf_counter()
    open_s, graphs, abandoned = 0.0, 0, False
    warnings: list[RunWarning] = []
    try:
        running = executor.start(job)
    except RuntimeError as error:
        raise PlanError(f"{job.callers} callers could not be started: {error}") from error
    watcher = Watcher(running, job, rule)
    disturbances = DisturbanceWatch(python_callers=executor.name == "threads")
    signals.stop = running.stop
    try:
        signals.may_interrupt = True
        if signals.received:
            running.stop()
        while not running.wait_ready(POLL_S):
            pass
        open_s = time.perf_counter() - opened
        graphs = compiled_graphs()
        with tracing(trace) as warnings, disturbances:
            watcher.start_ns = running.release()
            if signals.received:
                running.stop()  # it came while the line was being opened
            abandoned = not watcher.watch(observer)
        signals.may_interrupt = False
        if abandoned:
            running.stop()
        else:
            running.join()
    except KeyboardInterrupt:
        signals.may_interrupt = False
        running.stop()
        abandoned = not running.wait_done(0)
    except BaseException:
        signals.may_interrupt = False
        running.stop()
        running.wait_done(1.0)
        raise
    outcome = running.outcome()
    if abandoned and (left := watcher.calls_in_flight(outcome)):
        warnings.append(
            RunWarning(
                code="calls-given-up",
                message=(
                    f"{left} started call{'s' * (left > 1)} had not returned when the run was "
                    "given up"
                ),
                hint="they are in no latency; look for what the target waits for",
            )
        )
    log = watcher.collected(outcome)
    return Execution(
        outcome=outcome,
        due_calls=watcher.calls_due(outcome),
        stopped_s=watcher.stopped_s(outcome),
        log=log,
        open_s=open_s,
        recompiled_graphs=compiled_graphs() - graphs,
        warnings=warnings,
        abandoned=abandoned,
        watcher=watcher,
        disturbances=disturbances.found,
    )
