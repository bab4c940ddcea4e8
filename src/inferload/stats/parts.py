"""The measured part of a log, whether it is of every call or of counts."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol
from weakref import ref

import numpy as np

from inferload.log.calls import NO_STAGE, PIECE_DURATIONS
from inferload.log.tally import free_since
from inferload.stats.durations import CountedDurations, Durations, RawDurations
from inferload.stats.intervals import BATCHES
from inferload.stats.steadiness.pace import Pace, pace_of
from inferload.stats.steadiness.steady_state import few_windows_of, window_medians, windows_of
from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from inferload.log.arrays import Floats, Int64s
    from inferload.log.calls import CallLog, CallTally
    from inferload.records.spec import ModelShare

# Up to so many calls are put in the order of time; above, the order of rows is near enough, because
# a caller's range of rows is small beside a batch.
_ORDERED_CALLS = 1_000_000


class MeasuredPart(Protocol):
    """The calls of a log that finished after a time."""

    open_loop: bool
    duration_s: float
    failed: int

    @property
    def failed_s(self) -> float:
        """How long the calls that failed took from when they were due, together."""

    @property
    def returned_by_input(self) -> Int64s:
        """How many calls returned, of each input."""

    @property
    def returned_by_window(self) -> Int64s:
        """How many calls returned, of each of some windows of equal length."""

    def durations(self, name: str) -> Durations | None:
        """One duration of the calls that returned; ``None`` of no calls."""

    def stage(self, name: str) -> Durations | None:
        """One stage of the calls that returned, or their wait; ``None`` if there is none."""

    def windows(self) -> tuple[Floats, Floats]:
        """Medians of the response times of contiguous windows, and when each began, in seconds."""

    def few_medians(self) -> Floats:
        """Medians of service times of ten windows, where calls are too few for ``windows``."""

    def pace(self) -> Pace | None:
        """How long a call of the whole log took as time went by; ``None`` of too few calls."""


# So many calls are looked at in one go, so that their times take little memory.
_AT_ONCE = 65_536
# Durations that lie between two columns.
_BETWEEN = {
    "queue_ns": ("scheduled_ns", "started_ns"),
    "service_ns": ("started_ns", "finished_ns"),
    "response_ns": ("scheduled_ns", "finished_ns"),
}

# What tells whether a call has a stage that is none of the columns.
_KNOWN_BY = {"wait_ns": "issue_ns", "timed_ns": "device_ns", "instance_ns": "hold_ns"}


def part_of(log: CallLog, from_s: float = 0.0, callers: int = 1) -> MeasuredPart:
    """The calls of a log that finished after ``from_s``."""
    from_ns = round(from_s * NS_PER_S)
    if log.tally is not None:
        return CountedPart(log.tally, from_ns, open_loop=log.open_loop)
    return RawPart(log, from_ns, callers)


def log_of_inputs(log: CallLog, share: ModelShare) -> CallLog:
    """The rows of a log in which one model of a mix was called."""
    first = share.first_input
    return log.rows((log.input >= first) & (log.input < first + share.inputs))


class RawPart:
    """Every call."""

    def __init__(self, log: CallLog, from_ns: int, callers: int) -> None:
        self._log = log
        self._callers = callers
        self.open_loop = log.open_loop
        self._from_ns = from_ns
        self._rows = self._in_order(log.finished_ns, from_ns)
        finished = self._of(log.finished_ns)
        self._well = self._of(log.completed)
        self._all_well = bool(self._well.all())
        last_ns = int(finished.max()) if len(finished) else from_ns
        # what callers of a closed loop take to wake up after the start line is no call's time
        at_once = not self.open_loop and from_ns == 0 and len(finished) > 0
        self._first_ns = int(log.started_ns.min()) if at_once else from_ns
        self.duration_s = (last_ns - self._first_ns) / NS_PER_S
        self._last_ns = last_ns
        self.failed = int(np.count_nonzero(~self._well))
        self._count = len(self._well) - self.failed

    @cached_property
    def failed_s(self) -> float:
        """How long the calls that failed took from when they were due, together."""
        if self._all_well:
            return 0.0
        return float(self._of(self._log.response_ns)[~self._well].sum()) / NS_PER_S

    @cached_property
    def returned_by_input(self) -> Int64s:
        """How many calls returned, of each input."""
        inputs = self._log.input
        found = np.zeros(int(inputs.max(initial=0)) + 1, np.int64)
        for own in self._some_returned():
            found += np.bincount(inputs[own], minlength=len(found))
        used = np.flatnonzero(found)
        return found[: used[-1] + 1 if len(used) else 1]

    @cached_property
    def returned_by_window(self) -> Int64s:
        """How many calls returned in each of 40 windows of equal length."""
        span_ns = self._last_ns - self._first_ns
        edges = self._first_ns + span_ns * np.arange(1, BATCHES) // BATCHES
        before = np.zeros(len(edges), np.int64)
        for own in self._some_returned():
            ends = self._log.finished_ns[own]
            before += [np.count_nonzero(ends <= edge) for edge in edges]
        return np.diff([0, *before, self._count])

    def _some_returned(self) -> Iterator[NDArray[np.integer]]:
        """The rows of the calls that returned, some at a time: nothing is as long as a column."""
        for first in range(0, len(self._well), _AT_ONCE):
            span = slice(first, first + _AT_ONCE)
            well = self._well[span]
            yield np.flatnonzero(well) + first if self._rows is None else self._rows[span][well]

    def _in_order(self, finished_ns: Int64s, from_ns: int) -> NDArray[np.integer] | None:
        """Which rows are in the part, in the order of time; ``None``: all, as they are."""
        rows = np.flatnonzero(finished_ns > from_ns) if from_ns > 0 else None
        times = finished_ns if rows is None else finished_ns[rows]
        if len(times) > _ORDERED_CALLS or not (times[1:] < times[:-1]).any():
            return rows
        order = np.argsort(times, kind="stable").astype(np.int32)
        return order if rows is None else rows[order]

    def _of(self, column: NDArray[Any]) -> NDArray[Any]:
        return column if self._rows is None else column[self._rows]

    def _returned(self, column: NDArray[Any]) -> NDArray[Any]:
        return column if self._all_well else column[self._well]

    def durations(self, name: str) -> Durations | None:
        """One duration of the calls that returned; ``None`` of no calls."""
        return RawDurations(self._count, self._given_later(name)) if self._count else None

    def _given_later(self, name: str) -> Callable[[], Int64s]:
        """What gives a duration of each call, without keeping which rows these are."""
        here, log, from_ns, callers = ref(self), self._log, self._from_ns, self._callers

        def values_ns() -> Int64s:
            return (here() or RawPart(log, from_ns, callers))._values_ns(name)  # noqa: SLF001

        return values_ns

    def _values_ns(self, name: str) -> Int64s:
        if name == "response_ns" and not self.open_loop:
            name = "service_ns"  # the same, and one column less is read
        if name in _BETWEEN:
            return self._took_ns(*(self._log.columns()[one] for one in _BETWEEN[name]))
        values = self.lateness_ns() if name == "lateness_ns" else self._log.duration_ns(name)
        return self._returned(self._of(values))

    def _took_ns(self, begun_ns: Int64s, ended_ns: Int64s) -> Int64s:
        """The differences of two columns, of the calls that returned, in the order of time."""
        if self._rows is None:
            return self._returned(ended_ns - begun_ns)
        found, count = np.empty(self._count, np.int64), 0
        for own in self._some_returned():
            found[count : count + len(own)] = ended_ns[own] - begun_ns[own]
            count += len(own)
        return found

    def stage(self, name: str) -> Durations | None:
        """One stage of the calls that returned and have it, or their wait; ``None`` of none.

        ``"instance_ns"`` is the part of the queue in which all callers were busy, ``"timed_ns"``
        the response of those whose stages on the device were timed.
        """
        stages = self._log.stages
        if name in PIECE_DURATIONS and stages.keys() >= {"first_piece_ns"}:
            found = self._values_ns(name)
            found = found[found != NO_STAGE]
            return RawDurations.of(found) if len(found) else None
        known_by = _KNOWN_BY.get(name, name)
        if known_by not in stages:
            return None
        there = self._returned(self._of(stages[known_by])) != NO_STAGE
        name = "response_ns" if name == "timed_ns" else name
        count = int(np.count_nonzero(there))
        return RawDurations(count, lambda: self._values_ns(name)[there]) if count else None

    def lateness_ns(self) -> Int64s:
        """How late the harness began each call of the whole log, in the order of its rows."""
        log = self._log
        if "late_ns" in log.stages:  # a batch is not late while it is held back
            return log.stages["late_ns"]
        free = np.empty(len(log), np.int64)
        # a call that was dealt to a process and a model waits for their callers alone
        for rows, callers in log.queues():
            finished = log.finished_ns[rows]
            free[rows], _ = free_since(finished, np.empty(0, np.int64), callers or self._callers)
        return np.maximum(log.started_ns - np.maximum(log.scheduled_ns, free), 0)

    def windows(self) -> tuple[Floats, Floats]:
        """Medians of the response times of contiguous windows, and when each began, in seconds."""
        response = self._values_ns("response_ns")
        count = windows_of(len(response))
        if count == 0:
            return np.empty(0), np.empty(0)
        before = np.linspace(0, len(response), count + 1).astype(np.int64)[1:-1] - 1
        rows = np.arange(len(self._log)) if self._rows is None else self._rows
        ends = self._log.finished_ns[self._returned(rows)[before]]
        starts = np.concatenate([[self._from_ns], ends]) / NS_PER_S
        return window_medians(response, count), starts

    def few_medians(self) -> Floats:
        """Medians of service times of ten windows, where calls are too few for ``windows``."""
        count = few_windows_of(self._count)
        return window_medians(self._values_ns("service_ns"), count) if count else np.empty(0)

    def pace(self) -> Pace | None:
        """How long a call of the whole log took as time went by; ``None`` of too few calls.

        Of calls that failed, too: they take their time of a caller.
        """
        log, count = self._log, windows_of(len(self._log))
        if count == 0:
            return None
        begun, ended = log.scheduled_ns if self.open_loop else log.started_ns, log.finished_ns
        order = self._in_order(ended, 0) if self._from_ns > 0 else self._rows
        return pace_of(begun, ended, count, order=order)


class CountedPart:
    """Counts by time window; ``from_ns`` is where a window begins."""

    def __init__(self, tally: CallTally, from_ns: int, *, open_loop: bool) -> None:
        first = round(from_ns / tally.width_ns)
        self._tally = tally
        self._first = first
        self.open_loop = open_loop
        at_once = not open_loop and first == 0
        first_ns = tally.first_started_ns if at_once else first * tally.width_ns
        self.duration_s = (tally.last_finished_ns - first_ns) / NS_PER_S
        self.failed = int(tally.failed[first:].sum())
        self.failed_s = float(tally.failed_ns[first:].sum()) / NS_PER_S
        self.returned_by_input = tally.returned_by_input[first:].sum(axis=0)
        # the last window is not full
        self.returned_by_window = tally.returned_by_input[first:-1].sum(axis=1)

    def durations(self, name: str) -> Durations | None:
        """One duration of the calls that returned; ``None`` of no calls."""
        counted = "service_ns" if name == "response_ns" and not self.open_loop else name
        found = CountedDurations(self._tally, counted, self._first)
        return found if found.count else None

    def stage(self, name: str) -> Durations | None:
        """One stage of the calls that returned, or their wait; ``None`` if there is none."""
        return self.durations(name) if name in self._tally.counts else None

    def windows(self) -> tuple[Floats, Floats]:
        """Medians of the response times of contiguous windows, and when each began, in seconds."""
        name = "response_ns" if self.open_loop else "service_ns"
        used = np.flatnonzero(self._tally.returned_by_input[self._first :].sum(axis=1))
        starts = (used + self._first) * self._tally.width_ns / NS_PER_S
        return CountedDurations(self._tally, name, self._first).medians_ms(), starts

    def few_medians(self) -> Floats:
        """None: calls that are counted are many."""
        return np.empty(0)

    def pace(self) -> Pace | None:
        """How long a call of the whole log took as time went by, by the windows of the counts."""
        tally = self._tally
        if not tally.returned_by_input.any():
            return None
        counts = tally.counts["response_ns" if self.open_loop else "service_ns"].by_window()
        sums = tally.sums["response_ns" if self.open_loop else "service_ns"]
        edges = np.arange(len(sums) + 1) * tally.width_ns / NS_PER_S
        half = int(np.searchsorted(np.cumsum(counts), counts.sum() / 2))
        used = np.flatnonzero(counts[half:]) + half
        return Pace(
            edges_s=edges,
            ends_s=edges,
            busy_s=sums / NS_PER_S,
            done=counts.astype(np.float64),
            calls_s=sums[used] / counts[used] / NS_PER_S,
            half_s=float(edges[half]),
        )
