"""Drive one crew through its run: start, open the line, watch, stop at a signal, collect."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from inferload.disturbances import Disturbances, MachineWatch, together
from inferload.records import RunWarning
from inferload.units import NS_PER_S
from inferload.watcher import POLL_S, Watcher

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.call_log import CallLog
    from inferload.crew import Crew, PartReport
    from inferload.log_file import CallInFlight
    from inferload.run_options import RunOptions
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
    """What a run that has ended left behind.

    ``part_logs`` are the logs of the processes, ``log`` is all of them. ``due_calls``: open loop,
    how many calls were due until it ended. ``stopped_s``: when it was stopped before its end, from
    the start line. ``abandoned``: calls were given up that had not returned. ``hung``: the calls
    that took longer than the timeout, each after the number of its process;
    ``never_ready``: a warm-up call did.
    """

    reports: Sequence[PartReport]
    part_logs: Sequence[CallLog]
    log: CallLog
    open_s: float
    warnings: list[RunWarning]
    abandoned: bool
    watcher: Watcher
    due_calls: int
    stopped_s: float | None
    hung: list[tuple[int, CallInFlight]]
    never_ready: bool
    nursery_pss_bytes: int | None
    disturbances: Disturbances


def execute(
    crew: Crew,
    options: RunOptions,
    observer: Observer,
    signals: StopSignals,
    rule: StopByPrecision | None = None,
) -> Execution:
    """Run a crew. A first signal stops the callers, a second one gives up the calls they are in.

    So does the drain limit of an open loop, and a call that takes longer than the timeout.

    Raises:
        PlanError: the machine would not start so many callers.
        TargetCrashed: a process ended while it warmed up.
    """
    opened = time.perf_counter()
    open_s, abandoned, never_ready = 0.0, False, False
    # a caller whose warm-up calls all keep to the timeout is ready by then
    patience_s = (options.timeout_s or math.inf) * max(options.warmup_calls, 1)
    watch = MachineWatch()
    crew.start()
    signals.stop = crew.stop
    watcher = Watcher(
        crew,
        rule,
        drain_ns=int((options.drain_s or 0) * NS_PER_S),
        limit_ns=None if options.timeout_s is None else int(options.timeout_s * NS_PER_S),
    )
    callers = sum(part.callers for part in crew.parts)
    observer.stage(f"warming up {callers} caller{'s' * (callers > 1)}")
    try:
        signals.may_interrupt = True
        if signals.received:
            crew.stop()
        while not crew.wait_ready(POLL_S) and not never_ready:
            never_ready = time.perf_counter() - opened > patience_s
        open_s = time.perf_counter() - opened
        abandoned = never_ready
        if not never_ready:
            watcher.look_at_memory(0.0)
            with watch:
                watcher.start_ns = crew.release()
                if signals.received:
                    crew.stop()  # it came while the line was being opened
                abandoned = not watcher.watch(observer)
        signals.may_interrupt = False
        if abandoned:
            crew.stop()
    except KeyboardInterrupt:
        signals.may_interrupt = False
        crew.stop()
        abandoned = not crew.wait_done(0)
    except BaseException:
        signals.may_interrupt = False
        crew.stop()
        crew.wait_done(1.0)
        raise
    reports = crew.collect(abandoned=abandoned)
    warnings = []
    # calls that took longer than the timeout are in the log
    left = watcher.calls_in_flight(reports) - len(watcher.hung) if abandoned else 0
    if left > 0:
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
    part_logs = watcher.part_logs(reports)
    return Execution(
        reports=reports,
        part_logs=part_logs,
        log=watcher.merged(part_logs),
        due_calls=watcher.calls_due(reports),
        stopped_s=watcher.stopped_s(reports),
        open_s=open_s,
        warnings=warnings,
        abandoned=abandoned,
        watcher=watcher,
        hung=watcher.hung,
        never_ready=never_ready,
        nursery_pss_bytes=crew.nursery_pss_bytes,
        disturbances=together(watch, [report.disturbances for report in reports]),
    )
