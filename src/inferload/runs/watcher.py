"""What the starting thread does while callers call: progress, reading logs, ending the run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from inferload.callers.crew import merged_parts
from inferload.machine.process_use import ProcessWatch
from inferload.runs.log_reader import LogReader
from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferload.callers.crew import Crew, Observer, PartReport
    from inferload.log.calls import CallLog
    from inferload.log.ring import CallInFlight
    from inferload.stats.stopping import StopRule

POLL_S = 0.1
# How often an open loop is looked at for Little's law: at random, from half of this to one and a
# half, so that looks do not keep step with calls that are due at a constant rate.
LOOK_S = 0.03
LONGEST_PAUSE_S = 2.0


class Watcher:
    """Watches one run from the moment its line is opened.

    ``limit_ns``: a call that has not returned so long after it started ends the run. ``also`` is
    called at every look; so is ``impatient``, and the run is given up when it returns true.
    ``over_ns``: of a closed loop, how long after the line calls have to return.
    """

    def __init__(
        self,
        crew: Crew,
        rule: StopRule | None,
        drain_ns: int,
        limit_ns: int | None = None,
        also: Callable[[], None] | None = None,
        impatient: Callable[[], bool] = lambda: False,
        over_ns: int | None = None,
    ) -> None:
        self._crew = crew
        self._rule = rule
        self._drain_ns = drain_ns
        self._limit_ns = limit_ns
        self._also = also
        self._impatient = impatient
        self._over_ns = over_ns
        self.readers = [LogReader(part) for part in crew.parts]
        self._first_parts = [
            number
            for number, part in enumerate(crew.parts)
            if number == 0 or part.process != crew.parts[number - 1].process
        ]
        #: One of each process.
        self.processes = [
            ProcessWatch(Path("/proc") / str(crew.parts[number].pid))
            for number in self._first_parts
        ]
        self._schedules = [part.schedule for part in crew.parts if part.schedule is not None]
        self.start_ns = 0
        self._next_check_s = 0.0
        #: Open loop: pairs of a time in seconds and how many calls were due and not finished then.
        self.looks: list[tuple[float, float]] = []
        #: The calls that took longer than ``limit_ns``, each after the number of its part.
        self.hung: list[tuple[int, CallInFlight]] = []
        self._given_up_ns = 0
        self._end_rows: list[int] | None = None
        self._due_ns = max((one.end_ns for one in self._schedules), default=0)
        self._drained_ns = max((one.last_start_ns(drain_ns) for one in self._schedules), default=0)
        self._precise = False

    def watch(self, observer: Observer) -> bool:
        """Return when every caller has finished, or false: some had not within a limit."""
        looks = np.random.default_rng(0)
        while (now_ns := self._next_look_ns(looks)) is not None:
            elapsed_ns = now_ns - self.start_ns
            if self._impatient():
                return False
            if self._is_over(elapsed_ns):
                return False
            for reader in self.readers:
                reader.look(now_ns)
            finished = sum(reader.finished for reader in self.readers)
            if elapsed_ns > 0:
                self._look(elapsed_ns, finished)
            observer.progress(finished, max(elapsed_ns, 0) / 1e9)
            self.look_at_processes(max(elapsed_ns, 0) / 1e9)
            if self._also is not None:
                self._also()
            if self._limit_ns is not None and self._has_hung(self._limit_ns):
                return False
            for reader in self.readers:
                reader.make_room(self.start_ns)
            if self._rule is not None and finished >= self._rule.next_calls:
                self._check(finished, elapsed_ns / 1e9)
        return True

    def _is_over(self, elapsed_ns: int) -> bool:
        """Whether what is still in flight is given up."""
        if self._schedules:
            return elapsed_ns > self._drained_ns
        return self._over_ns is not None and elapsed_ns > self._over_ns

    def _next_look_ns(self, looks: np.random.Generator) -> int | None:
        """Wait for the next look; as of when it counts, or ``None``: every caller has finished.

        A look comes late where callers are busy, after what they were busy with: counted as of
        then, too few calls would be in flight.
        """
        pause_s = looks.uniform(0.5, 1.5) * LOOK_S if self._schedules else POLL_S
        look_ns = self._crew.now_ns() + round(pause_s * NS_PER_S)
        if self._crew.wait_done(pause_s):
            return None
        return min(self._crew.now_ns(), look_ns)

    def look_at_processes(self, elapsed_s: float) -> None:
        """Note what the processes take, where it is time to."""
        ends = [*self._first_parts[1:], len(self.readers)]
        for watch, begin, end in zip(self.processes, self._first_parts, ends, strict=True):
            watch.look(elapsed_s, sum(reader.finished for reader in self.readers[begin:end]))

    def _look(self, elapsed_ns: int, finished: int) -> None:
        """Remember how many calls of an open loop are due and not finished."""
        if self._schedules and elapsed_ns <= self._due_ns:
            due = sum(schedule.due_by(elapsed_ns) for schedule in self._schedules)
            self.looks.append((elapsed_ns / 1e9, max(due - finished, 0)))

    def _has_hung(self, limit_ns: int) -> bool:
        """Whether some call has taken longer than the limit."""
        now = self._given_up_ns = self._crew.now_ns()
        self.hung = [
            (number, call)
            for number, reader in enumerate(self.readers)
            for call in reader.calls_in_flight()
            if now - call.started_ns > limit_ns
        ]
        return bool(self.hung)

    def _check(self, finished: int, elapsed_s: float) -> None:
        """Ask the rule, which should take no more than a twentieth of the time."""
        if self._rule is None or self._precise or elapsed_s < self._next_check_s:
            return
        began = time.perf_counter()
        self._precise = self._rule.enough(
            self._merged([reader.snapshot(self.start_ns) for reader in self.readers]),
            finished,
        )
        self._next_check_s = elapsed_s + min(20 * (time.perf_counter() - began), LONGEST_PAUSE_S)
        if self._precise:
            self.end()

    def end(self) -> None:
        """End the run: a closed loop at once, an open loop when what is due by now is done."""
        if not self._schedules or (self._rule is not None and self._rule.at_once):
            self._crew.stop()
            return
        self._due_ns = self._crew.now_ns() - self.start_ns
        self._drained_ns = self._due_ns + self._drain_ns
        self._end_rows = [schedule.due_by(self._due_ns) for schedule in self._schedules]
        for part, rows in zip(self._crew.parts, self._end_rows, strict=True):
            part.running.end_at(rows)

    @property
    def due_s(self) -> float | None:
        """Open loop: until when calls were due, the time after the last one included."""
        if not self._schedules:
            return None
        ended = self._end_rows is not None
        span_ns = self._due_ns if ended else max(one.span_ns for one in self._schedules)
        return span_ns / NS_PER_S

    def calls_due(self, reports: Sequence[PartReport]) -> int:
        """Open loop: how many calls were due until the run ended, early or not; else 0."""
        due = [one.calls for one in self._schedules] if self._end_rows is None else self._end_rows
        stopped_s = self.stopped_s(reports)
        if stopped_s is None:
            return sum(due)
        by_then = [one.due_by(round(stopped_s * NS_PER_S)) for one in self._schedules]
        return sum(map(min, due, by_then))

    def stopped_s(self, reports: Sequence[PartReport]) -> float | None:
        """When the run was stopped, from the start line; ``None`` if it was not."""
        stopped = [r.outcome.stopped_ns for r in reports if r.outcome.stopped_ns is not None]
        if not stopped or not self.start_ns:
            return None
        return max(max(stopped) - self.start_ns, 0) / NS_PER_S

    def part_logs(self, reports: Sequence[PartReport]) -> list[CallLog]:
        """The logs of a run that is over, one for each process."""
        return [
            reader.collected(
                self.start_ns,
                report.outcome.claimed_rows,
                report.outcome.errors,
                [call for part, call in self.hung if part == number],
                self._given_up_ns,
                report.outcome.piece_times,
            )
            for number, (reader, report) in enumerate(zip(self.readers, reports, strict=True))
        ]

    def _merged(self, logs: Sequence[CallLog]) -> CallLog:
        return merged_parts(self._crew.parts, logs)

    def calls_in_flight(self, reports: Sequence[PartReport]) -> int:
        """How many calls had started and not finished when the run was given up."""
        return sum(
            len(reader.calls_in_flight(report.outcome.claimed_rows))
            for reader, report in zip(self.readers, reports, strict=True)
        )
