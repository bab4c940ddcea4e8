"""What the starting thread does while callers call: tell of progress, read the log, end the run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from inferload.call_log import CallLog
from inferload.intervals import mean_interval
from inferload.tally import CHUNK_ROWS, Tally
from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from inferload.execution import Observer
    from inferload.executors.base import Job, Outcome, Running
    from inferload.stopping import StopByPrecision

POLL_S = 0.1
# How often an open loop is looked at for Little's law: at random, from half of this to one and a
# half, so that looks do not keep step with calls that are due at a constant rate.
LOOK_S = 0.03
# Where counting finished calls took longer, the count is not one of a moment.
COUNTED_AT_ONCE_NS = 5_000_000
LONGEST_PAUSE_S = 2.0
# Batches of looks, for the interval of the mean number of calls in flight.
LOOK_BATCHES = 10


class Watcher:
    """Watches one run from the moment its line is opened."""

    def __init__(self, running: Running, job: Job, rule: StopByPrecision | None) -> None:
        self._running = running
        self._job = job
        self._rule = rule
        self.start_ns = 0
        self._all_before = 0
        self._folded = 0
        self._tally: Tally | None = None
        self._next_check_s = 0.0
        #: Open loop: pairs of a time in seconds and how many calls were due and not finished then.
        self.in_flight: list[tuple[float, int]] = []
        self._end_row: int | None = None
        self._due_ns = 0 if job.schedule is None else job.schedule.end_ns
        self._precise = False

    def watch(self, observer: Observer) -> bool:
        """Return when every caller has finished, or false: some had not within the drain limit."""
        looks = np.random.default_rng(0)
        while not self._running.wait_done(
            POLL_S if self._job.schedule is None else looks.uniform(0.5, 1.5) * LOOK_S
        ):
            elapsed_ns = self._running.now_ns() - self.start_ns
            if self._job.schedule is not None and elapsed_ns > self._due_ns + self._job.drain_ns:
                return False
            claimed = self._within_room(self._running.claimed_rows())
            count, further = self._job.log.finished_calls(self._all_before, claimed)
            finished = self._all_before + count
            self._all_before = further
            counted_ns = self._running.now_ns() - self.start_ns
            if elapsed_ns > 0 and counted_ns - elapsed_ns < COUNTED_AT_ONCE_NS:
                self._look(elapsed_ns, finished)
            observer.progress(finished, max(elapsed_ns, 0) / 1e9)
            log = self._job.log
            if log.rows > log.room and claimed - self._folded > 0.9 * log.room:
                self._fold(self._all_before)
            if self._rule is not None and finished >= self._rule.next_calls:
                self._check(finished, claimed, elapsed_ns / 1e9)
        return True

    def _within_room(self, claimed: int) -> int:
        """Rows that callers have claimed and may write; they wait with those beyond."""
        return min(claimed, self._folded + self._job.log.room)

    def _look(self, elapsed_ns: int, finished: int) -> None:
        """Remember how many calls of an open loop are due and not finished."""
        schedule = self._job.schedule
        if schedule is not None and elapsed_ns <= self._due_ns:
            due = schedule.due_by(elapsed_ns)
            self.in_flight.append((elapsed_ns / 1e9, max(due - finished, 0)))

    def _check(self, finished: int, claimed: int, elapsed_s: float) -> None:
        """Ask the rule, which should take no more than a twentieth of the time."""
        if self._rule is None or self._precise or elapsed_s < self._next_check_s:
            return
        began = time.perf_counter()
        self._precise = self._rule.enough(self._snapshot(claimed), finished)
        self._next_check_s = elapsed_s + min(20 * (time.perf_counter() - began), LONGEST_PAUSE_S)
        if self._precise:
            self.end()

    def end(self) -> None:
        """End the run: a closed loop at once, an open loop when what is due by now is done."""
        if self._job.schedule is None:
            self._running.stop()
            return
        self._due_ns = self._running.now_ns() - self.start_ns
        self._end_row = self._job.schedule.due_by(self._due_ns)
        self._running.end_at(self._end_row)

    @property
    def due_s(self) -> float | None:
        """Open loop: when the last call was due."""
        return None if self._job.schedule is None else self._due_ns / 1e9

    def calls_due(self, outcome: Outcome) -> int:
        """Open loop: how many calls were due until the run ended, early or not; else 0."""
        schedule = self._job.schedule
        if schedule is None:
            return 0
        due = schedule.calls if self._end_row is None else self._end_row
        stopped_s = self.stopped_s(outcome)
        return due if stopped_s is None else min(due, schedule.due_by(round(stopped_s * NS_PER_S)))

    def stopped_s(self, outcome: Outcome) -> float | None:
        """When the run was stopped, from the start line; ``None`` if it was not."""
        if outcome.stopped_ns is None or not self.start_ns:
            return None
        return max(outcome.stopped_ns - self.start_ns, 0) / NS_PER_S

    def _snapshot(self, claimed: int) -> CallLog:
        """What is known of the run so far, as a log of its own."""
        if self._tally is not None:
            return self._tally.handed_over(())
        rows = self._job.log.rows_between(0, claimed)
        finished = rows["finished_ns"] != 0
        columns: dict[str, Any] = {name: column[finished] for name, column in rows.items()}
        for name in ("scheduled_ns", "started_ns", "finished_ns"):
            columns[name] -= self.start_ns
        if self._job.schedule is None:  # a block's column is filled in at its end
            columns["scheduled_ns"] = columns["started_ns"]
        return CallLog(**columns)

    def _fold(self, until: int) -> None:
        """Count the finished rows before ``until``, and let their places be written again."""
        log = self._job.log
        if until <= self._folded:
            return
        if self._tally is None:
            inputs = max(len(own) for own in self._job.inputs)
            open_loop = self._job.schedule is not None
            self._tally = Tally(self._job.callers, inputs, open_loop=open_loop)
        while self._folded < until:
            begin = self._folded
            end = min(begin + CHUNK_ROWS, until, (begin // log.room + 1) * log.room)
            rows = dict(log.rows_between(begin, end))
            for name in ("scheduled_ns", "started_ns", "finished_ns"):
                rows[name] = rows[name] - self.start_ns
            self._tally.add(begin, rows)
            log.forget(begin, end)
            self._folded = end
            self._running.fold_to(end)

    def collected(self, outcome: Outcome) -> CallLog:
        """The log of a run that is over."""
        rest = self._job.log.hand_over(
            self.start_ns, self._folded, self._within_room(outcome.claimed_rows), outcome.errors
        )
        if self._tally is None:
            return rest
        if len(rest):
            names = ("scheduled_ns", "started_ns", "finished_ns", "caller", "input", "error")
            self._tally.add(self._folded, {name: getattr(rest, name) for name in names})
        return self._tally.handed_over(outcome.errors)

    def calls_in_flight(self, outcome: Outcome) -> int:
        """How many calls had started and not finished when the run was given up."""
        claimed = self._within_room(outcome.claimed_rows)
        return self._job.log.calls_in_flight(self._folded, claimed)

    def mean_in_flight(self, from_s: float) -> tuple[float, float] | None:
        """The mean number of calls found due and not finished, and half of its 95 % interval."""
        found = np.array([calls for seconds, calls in self.in_flight if seconds >= from_s])
        if len(found) < 2 * LOOK_BATCHES or found.mean() == 0:
            return None
        batches = [batch.mean() for batch in np.array_split(found, LOOK_BATCHES)]
        bounds = mean_interval(batches)
        if bounds is None:
            return None
        return float(found.mean()), (bounds[1] - bounds[0]) / 2
