"""Callers in processes of their own: started, told what to do, and outlived where one of them dies.

The logs are files that this process made, so a process that is killed leaves all of its finished
calls behind. Imports no torch: the model is in the other processes.
"""

from __future__ import annotations

import itertools
import shutil
import signal
import time
from dataclasses import replace
from itertools import zip_longest
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING

from inferload.callers.crew import PartReport, Preparation
from inferload.callers.processes import words as say
from inferload.callers.processes.lost import cut_off, error_told, with_exception
from inferload.callers.processes.process import parts_of
from inferload.callers.processes.starting import started
from inferload.errors import PlanError
from inferload.log.kept import kept_log
from inferload.machine.cgroups import out_of_memory_kills
from inferload.machine.process_use import pss_bytes
from inferload.machine.scratch import scratch_folder
from inferload.records.endings import TargetCrashed
from inferload.signals import PutOff

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Self

    from inferload.callers.crew import Observer, Part
    from inferload.callers.processes.birth import Group
    from inferload.callers.processes.handles import Nursery
    from inferload.callers.processes.process import CallersProcess
    from inferload.log.ring import LogFile
    from inferload.plan.arrivals.schedule import Schedule
    from inferload.plan.cores import Place
    from inferload.plan.model import ModelSource
    from inferload.plan.options import RunOptions

# From telling all processes when to start until then: each has to hear of it and wake up.
LEAD_NS = 30_000_000
LEAD_PER_PROCESS_NS = 1_000_000
# How long a process may take to report once its calls were given up, and to end once it reported.
GIVE_UP_S = 2.0
END_S = 5.0


class ProcessCrew:
    """The callers of a run in ``options.processes`` processes.

    The model comes from ``source``, which the first process loads and hands to the others, or from
    ``hand``, whose bytes make the same target in each process.
    """

    def __init__(
        self,
        options: RunOptions,
        *,
        source: ModelSource | None = None,
        hand: Callable[[Path], bytes] | None = None,
    ) -> None:
        self._options = options
        self._source = source
        self._hand = hand
        self._processes: list[CallersProcess] = []
        #: Of each process, and each of its lanes.
        self._logs: list[list[LogFile]] = []
        self._schedules: list[list[Schedule | None]] = []
        self._places: list[Place] = []
        self._nursery: Nursery | None = None
        self._group: Group | None = None
        self._scratch: Path | None = None
        self._stop_asked = self._stop_told = self._abandoned = False
        self._killed_before = out_of_memory_kills()
        self._start_ns: int | None = None
        self._began_s = 0.0
        self.parts: Sequence[Part] = ()
        self.nursery_pss_bytes: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with PutOff():
            killed, patience_s = False, END_S if kind is None else GIVE_UP_S
            for process in self._processes:
                killed |= process.end(patience_s if process.is_leaving else 0.0)
            if self._nursery is not None:
                self._nursery.process.join(0.0 if killed else patience_s)
                self._nursery.process.kill()
                self._nursery.process.join()
            if self._group is not None:
                # what the model has started would be left; Ctrl-C would have ended it as well
                if killed:
                    self._group.signal(signal.SIGKILL)
                elif kind is not None or self._abandoned:
                    self._group.signal(signal.SIGTERM)
                self._group.close()
            for log in itertools.chain.from_iterable(self._logs):
                log.close()
            if self._scratch is not None:
                shutil.rmtree(self._scratch, ignore_errors=True)

    @property
    def _folder(self) -> Path:
        if self._scratch is None:
            raise AssertionError("there is a folder once processes are prepared")
        return self._scratch

    # ---- before the callers start ----

    def begin(self, announce: Callable[[str], None]) -> None:
        """Start the processes; what they load, they load while this one goes on."""
        self._began_s = time.perf_counter()
        announce("starting processes" if self._options.crew_size > 1 else "starting a process")
        with PutOff():  # no process may be started that is not known here
            self._scratch = scratch_folder()
            self._set_aside()
            self._processes, self._nursery, self._group = started(
                self._options,
                self._source,
                self._places,
                self._logs,
                scratch=self._folder,
                from_here=self._hand is not None,
                shares_calls=self._is_shared and self._schedules[0][0] is None,
            )

    def prepare(self, announce: Callable[[str], None]) -> Sequence[Preparation]:
        """Have each process take the model and prepare its callers."""
        if not self._processes:
            self.begin(announce)
        if self._hand is not None:
            for process in self._processes:
                process.hand(self._hand(self._folder))
                if process is self._processes[0]:  # alone, it measures what an empty call takes
                    self._until(lambda one: one.ready is not None, [process], announce)
        self._until(lambda one: one.ready is not None, self._processes, announce)
        took_s = time.perf_counter() - self._began_s
        ready = [process.ready for process in self._processes if process.ready is not None]
        process_s = max(took_s - max(one.prepare_s for one in ready), 0.0)
        return [
            replace(one, spec=replace(one.spec, isolated=True), process_s=process_s)
            for one in ready
        ]

    def _set_aside(self) -> None:
        options, count = self._options, self._options.crew_size
        options.check_devices_used()
        self._places = options.places()
        self._schedules = options.schedules()
        closed = self._schedules[0][0] is None
        if closed and options.calls is not None and options.calls < count:
            raise PlanError(
                f"{options.calls:,} calls are fewer than {count} processes: ask for more calls"
            )
        # who shares a number of calls may make all of them, and mostly does not
        whole = options.precision is None and not (closed and self._is_shared)
        for number, own in enumerate(self._schedules):
            self._logs.append([])
            for lane, schedule in enumerate(own):
                calls = options.calls if schedule is None else schedule.calls
                log = kept_log(options.keep_in, (number, lane), calls, set_aside=whole)
                self._logs[-1].append(log)

    @property
    def _is_shared(self) -> bool:
        """Whether there is more than one log."""
        return self._options.crew_size * len(self._options.callers_by_lane) > 1

    def _until(
        self,
        happened: Callable[[CallersProcess], bool],
        processes: Sequence[CallersProcess],
        announce: Callable[[str], None],
    ) -> None:
        while not all(happened(process) for process in processes):
            self._listen(0.1, announce)

    # ---- while they call ----

    def start(self) -> None:
        """Have every process start its callers."""
        for process in self._processes:
            process.tell(say.START)
            process.show_columns(self._logs[process.number])
        self.parts = [
            part
            for one in self._processes
            for part in parts_of(
                one, self._logs[one.number], self._schedules[one.number], self._options
            )
        ]

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until the callers of all processes stand at the start line."""
        return self._wait(lambda one: one.at_line or one.ended, timeout_s)

    def warmed(self) -> tuple[int, int] | None:
        """Warm-up calls of all processes made so far, as they have said, and in all."""
        said = [process.warmed for process in self._processes]
        known = [one for one in said if one is not None]
        if len(known) < len(said):
            return None
        return sum(made for made, _ in known), sum(wanted for _, wanted in known)

    def agreed_start(self, observer: Observer, at_line: Callable[[], None]) -> int | None:
        """Whenever all callers are ready."""
        del observer
        at_line()
        return None

    def release(self, at_ns: int | None = None) -> int:
        """Tell all processes when to start; that time."""
        if self._nursery is not None:
            self.nursery_pss_bytes = pss_bytes(Path("/proc") / str(self._nursery.process.pid))
        lead_ns = LEAD_NS + LEAD_PER_PROCESS_NS * len(self._processes)
        self._start_ns = time.perf_counter_ns() + lead_ns if at_ns is None else at_ns
        for process in self._processes:
            process.show_columns(self._logs[process.number])
            process.tell(say.RELEASE, self._start_ns)
        return self._start_ns

    def wait_done(self, timeout_s: float) -> bool:
        """Wait until every process has reported, or has died."""
        return self._wait(lambda one: one.ended, timeout_s)

    def _wait(self, happened: Callable[[CallersProcess], bool], timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while True:
            if all(happened(process) for process in self._processes):
                return True
            left = deadline - time.monotonic()
            if left < 0:
                return False
            self._listen(left)

    def now_ns(self) -> int:
        """The time by the callers' clock: all processes of a machine have the same."""
        return time.perf_counter_ns()

    def stop(self) -> None:
        """Let each caller finish the call it is in, and no more."""
        # called by signal handlers, perhaps in the middle of telling a process something else
        self._stop_asked = True

    def _listen(self, timeout_s: float, announce: Callable[[str], None] | None = None) -> None:
        """Hear what processes say, and whether one has died."""
        self._pass_stop_on()
        alive = [process for process in self._processes if not process.ended]
        # the children of a nursery share what tells of their ends
        heard = wait(list({thing: 0 for one in alive for thing in one.waited_for}), timeout_s)
        for process in alive:
            # what tells of one end may have been read with what tells of another
            if not process.exited and not any(thing in heard for thing in process.waited_for):
                continue
            for word, *rest in process.heard():
                if word == say.STAGE and announce is not None:
                    announce(*rest)
                elif word == say.ERROR:
                    raise error_told(process.number, *rest)
            if process.died:
                self._mourn(process)
            elif self._options.on_error == "stop":
                self._stop_asked |= process.has_failed
        self._pass_stop_on()

    def _pass_stop_on(self) -> None:
        if self._stop_asked and not self._stop_told and self.parts:
            self._stop_told = True
            for process in self._processes:
                process.tell(say.STOP)

    def _mourn(self, process: CallersProcess) -> None:
        """A process has died: note how, and end the run where errors do."""
        if self._start_ns is None:
            ending = process.ending(self._folder, None, (), self._killed_before)
            raise TargetCrashed(
                f"process {process.number} {ending.how} while it {process.stage}"
                + (f" ({ending.place})" if ending.place else "")
                + ": no call was measured yet"
                + process.hint()
            )
        own = self._parts_of(process)
        claimed = [part.running.claimed_rows() for part in own]
        in_flight = [
            part.place.since(own[0].place).numbered(call.caller, call.input)
            for part, rows in zip(own, claimed, strict=True)
            for call in part.log.calls_in_flight(max(rows - part.log.room, 0), rows)
        ]
        ending = process.ending(
            self._folder,
            (time.perf_counter_ns() - self._start_ns) / 1e9,
            in_flight,
            self._killed_before,
        )
        stopped_ns = time.perf_counter_ns() if self._options.on_error == "stop" else None
        process.reports = [
            PartReport(outcome=cut_off(rows, stopped_ns), ending=None if lane else ending)
            for lane, rows in enumerate(claimed)
        ]
        if self._options.on_error == "stop":
            self._stop_asked = True

    def _parts_of(self, process: CallersProcess) -> list[Part]:
        return [part for part in self.parts if part.process == process.number]

    # ---- after ----

    def collect(self, *, abandoned: bool) -> Sequence[PartReport]:
        """What each part left behind; a process that does not answer is killed."""
        self._abandoned = abandoned
        if abandoned:
            for process in self._processes:
                process.tell(say.GIVE_UP)
            if not self.wait_done(GIVE_UP_S):
                for process in self._processes:
                    if not process.ended:
                        own = self._parts_of(process)
                        claimed = [part.running.claimed_rows() for part in own]
                        process.end(0.0)
                        now_ns = time.perf_counter_ns()
                        process.reports = [
                            PartReport(outcome=cut_off(rows, now_ns)) for rows in claimed
                        ]
        while not self.wait_done(1.0):
            pass
        return [
            with_exception(report, exception) if self._hand is not None else report
            for process in self._processes
            for report, exception in zip_longest(process.reports, process.exceptions)
        ]
