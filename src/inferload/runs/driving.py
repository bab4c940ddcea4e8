"""Drive one crew through its run: start, open the line, watch, stop at a signal, collect."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from inferload.callers.crew import merged_parts
from inferload.machine.disturbances import MachineWatch, together
from inferload.machine.telemetry import RunTelemetry
from inferload.plan.server import SERVER_DRAIN_S
from inferload.records.figures import RunWarning
from inferload.runs.execution import Execution, HungCall, ProcessRecord
from inferload.runs.partial.keeping import keep, keep_seen, keep_start
from inferload.runs.server_result import ServerCounts
from inferload.runs.warming import WarmUp, cut_short
from inferload.runs.watcher import POLL_S, Watcher
from inferload.stats.limits.goodput import check_of_pieces
from inferload.stats.limits.limit import limits_given
from inferload.stats.process_calls import CallsOfLog
from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from inferload.callers.crew import Crew, Observer, Part, PartReport, Preparation
    from inferload.log.calls import CallLog
    from inferload.log.ring import CallInFlight
    from inferload.plan.options import RunOptions
    from inferload.records.figures import MemoryUse
    from inferload.signals import StopSignals
    from inferload.stats.stopping import StopRule

# How long calls may go on after the first signal: who sends one, such as Docker, sends SIGKILL 10 s
# later, and until then everything is to be saved.
PATIENCE_S = 5.0


def execute(
    crew: Crew,
    ready: Sequence[Preparation],
    options: RunOptions,
    observer: Observer,
    signals: StopSignals,
    rule: StopRule | None = None,
) -> Execution:
    """Run a crew that is prepared.

    A first signal stops the callers, a second one gives up the calls they are in, and so do
    ``PATIENCE_S`` after the first, the drain limit of an open loop, and a call that takes longer
    than the timeout.

    Raises:
        PlanError: the machine would not start so many callers, or a limit is of pieces and calls
            answer whole.
        TargetCrashed: a process ended while it warmed up.
    """
    opened = time.perf_counter()
    open_s, abandoned, never_ready, given_up = 0.0, False, False, False
    # a caller whose warm-up calls all keep to the timeout is ready by then
    # after the one that the first caller makes alone
    patience_s = (options.timeout_s or math.inf) * (1 + max(options.warmup_calls, 1))
    watch = MachineWatch()
    telemetry = RunTelemetry(
        [info for one in ready for info in one.devices], wanted=options.telemetry
    )
    crew.start()
    signals.stop = crew.stop
    watcher = Watcher(
        crew,
        rule,
        drain_ns=int(options.drain_s * NS_PER_S),
        limit_ns=_limit_ns(ready, options),
        also=partial(_look_too, telemetry, options.keep_in),
        impatient=lambda: signals.waited_s() > PATIENCE_S,
        over_ns=_over_ns(options),
    )
    warm_up, counts = WarmUp(crew, observer), ServerCounts(ready[0].spec.servers)
    try:
        signals.may_interrupt = True
        if signals.received:
            crew.stop()
        while not crew.wait_ready(POLL_S) and not never_ready and not given_up:
            never_ready = time.perf_counter() - opened > patience_s
            given_up = signals.waited_s() > PATIENCE_S
            warm_up.look()
        open_s = time.perf_counter() - opened
        abandoned = never_ready or given_up
        if not abandoned:
            check_of_pieces(
                [*limits_given(options.limit), *options.decide],
                in_pieces=any("pieces" in part.log.optional for part in crew.parts),
            )
            watcher.look_at_processes(0.0)
            keep(options.keep_in, ready, crew.parts, open_s)
            with telemetry:  # to begin looking takes a while, which nobody must wait for
                start_ns = crew.agreed_start(observer, counts.note_before)
                with watch:
                    watcher.start_ns = crew.release(start_ns)
                    keep_start(options.keep_in, watcher.start_ns)
                    telemetry.begin(watcher.start_ns)
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
    counts.note_after()  # outputs that are verified may be asked for again
    reports = counts.told_in(crew.collect(abandoned=abandoned))
    to_its_end = watcher.start_ns and not signals.received
    logs = watcher.part_logs(reports)
    return Execution(
        processes=_records(ready, crew.parts, reports, logs, watcher),
        log=merged_parts(crew.parts, logs),
        due_calls=watcher.calls_due(reports),
        due_s=watcher.due_s,
        stopped_s=watcher.stopped_s(reports),
        open_s=open_s,
        warnings=[
            *(_given_up(watcher, reports) if abandoned else ()),
            *(cut_short(options, reports, len(ready[0].spec.models), open_s) if to_its_end else ()),
        ],
        abandoned=abandoned,
        looks=[watcher.looks],
        hung=[_hung(crew.parts, *one) for one in watcher.hung],
        never_ready=never_ready,
        nursery_pss_bytes=crew.nursery_pss_bytes,
        disturbances=together(watch, [report.disturbances for report in reports]),
        telemetry={0: telemetry.found},
        widths={} if rule is None else rule.widths,
    )


def _look_too(telemetry: RunTelemetry, folder: Path | None) -> None:
    telemetry.look()
    keep_seen(folder)


def _limit_ns(ready: Sequence[Preparation], options: RunOptions) -> int | None:
    """How long a call may take until it is given up; tasks have time to cancel it themselves."""
    if options.timeout_s is None:
        return None
    tasks = all(one.spec.executors == ("async",) for one in ready)
    return int((2 * options.timeout_s + 1 if tasks else options.timeout_s) * NS_PER_S)


def _over_ns(options: RunOptions) -> int | None:
    """When requests to a server that are still in flight are given up, in a closed loop."""
    if not options.of_server or options.load.open_loop or options.limit_s is None:
        return None
    return int((options.limit_s + SERVER_DRAIN_S) * NS_PER_S)


def _given_up(watcher: Watcher, reports: Sequence[PartReport]) -> list[RunWarning]:
    # calls that took longer than the timeout are in the log
    left = watcher.calls_in_flight(reports) - len(watcher.hung)
    if left <= 0:
        return []
    return [
        RunWarning(
            code="calls-given-up",
            message=(
                f"{left} started call{'s' * (left > 1)} had not returned when the run was given up"
            ),
            hint="they are in no latency; look for what the target waits for",
        )
    ]


def _records(
    ready: Sequence[Preparation],
    parts: Sequence[Part],
    reports: Sequence[PartReport],
    logs: Sequence[CallLog],
    watcher: Watcher,
) -> list[ProcessRecord]:
    lanes = len(parts) // len(ready)
    found = []
    for number, one in enumerate(ready):
        own = slice(number * lanes, (number + 1) * lanes)
        log = merged_parts(parts[own], logs[own])
        found.append(
            ProcessRecord(
                number=number,
                ready=one,
                reports=reports[own],
                calls=CallsOfLog(log),
                memory=_memory(watcher.processes[number].memory, reports[own]),
                cpu=watcher.processes[number].cpu,
            )
        )
    return found


def _memory(found: MemoryUse | None, reports: Sequence[PartReport]) -> MemoryUse | None:
    """With the peak that the process itself saw at its end."""
    own = reports[0].peak_rss_bytes
    if found is None or own is None:
        return found
    return replace(found, peak_rss_bytes=max(found.peak_rss_bytes, own))


def _hung(parts: Sequence[Part], number: int, call: CallInFlight) -> HungCall:
    part = parts[number]
    first = next(one.place for one in parts if one.process == part.process)
    caller, of_input = part.place.since(first).numbered(call.caller, call.input)
    return HungCall(process=part.process, caller=caller, input=of_input)
