"""Several logs into one: raw values concatenated, or counts of one layout added.

Percentiles are never averaged. Logs are added one after another, so that those of many machines
need not be in memory together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from inferload.log.calls import COLUMNS, NO_STAGE, OPTIONAL, CallLog
from inferload.log.distinct import Classes
from inferload.log.piece_times import joined
from inferload.log.ring import KEPT_CALLS
from inferload.log.tally import SAMPLED_CALLS, Tally, in_sample
from inferload.log.window_counter import WindowCounter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from inferload.log.failures import CallFailure
    from inferload.log.piece_times import PieceTimes

    Columns = dict[str, NDArray[Any]]
    Number = TypeVar("Number", int, NDArray[Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPlace:
    """Where the callers and inputs of one log stand among those of all."""

    callers: int
    first_caller: int = 0
    first_input: int = 0

    def numbered(self, caller: Number, of_input: Number) -> tuple[Number, Number]:
        """The numbers that a caller and an input of this log have among all; of arrays, too."""
        return caller + self.first_caller, of_input + self.first_input

    def since(self, first: LogPlace) -> LogPlace:
        """The place among those from another one on, as of a process in it all."""
        return replace(self, first_caller=self.first_caller - first.first_caller)


class Merge:
    """A log of all calls, to which one log after another is added.

    ``inputs``: how many there are in all. More than ``most_rows`` calls in all are counted, and so
    are all where one log is; the rows are then a sample.
    """

    def __init__(self, *, open_loop: bool, inputs: int, most_rows: int | None = None) -> None:
        self._open_loop = open_loop
        self._inputs = inputs
        self._most_rows = KEPT_CALLS if most_rows is None else most_rows
        self._raw: list[tuple[CallLog, LogPlace]] = []
        self._counter: WindowCounter | None = None
        self._calls = 0
        #: The rows of counted logs: one call in ``_one_in``.
        self._rows: list[Columns] = []
        self._one_in = 1
        self._errors = _Errors()
        self._piece_times: list[PieceTimes] = []
        self._batches = 0

    def add(self, log: CallLog, place: LogPlace) -> None:
        """Add a log."""
        if not log.calls_made:
            return
        self._calls += log.calls_made
        if log.piece_times is not None:
            self._piece_times.append(_numbered(log.piece_times, place))
        if self._counter is None and log.tally is None and self._calls <= self._most_rows:
            self._raw.append((log, place))
            return
        if self._counter is None:
            self._counter = WindowCounter(self._inputs, dtype=np.int64)
            for one in self._raw:
                self._count(self._counter, *one)
            self._raw.clear()
        self._count(self._counter, log, place)

    def _count(self, counter: WindowCounter, log: CallLog, place: LogPlace) -> None:
        tally = log.tally
        if tally is None:
            log = counted(log, place.callers)
            tally = log.tally
        if tally is None:
            raise AssertionError("a log that was tallied has counts")
        counter.add_counts(tally, place.first_input)
        one_in = max(self._one_in, tally.sampled_one_in)
        while self._calls / one_in > 1.1 * SAMPLED_CALLS:
            one_in *= 2
        self._rows = [_thinned(rows, one_in // self._one_in) for rows in self._rows]
        own = _thinned(log.columns(), one_in // tally.sampled_one_in)
        # copies: views would keep all that the log came with
        own = {name: column.copy() for name, column in own.items()}
        self._rows.append(self._placed(own, log.errors, place))
        self._one_in = one_in

    def _placed(self, rows: Columns, errors: Sequence[CallFailure], place: LogPlace) -> Columns:
        caller, of_input = place.numbered(rows["caller"], rows["input"])
        placed = rows | {
            "caller": caller,
            "input": of_input,
            "error": self._errors.numbered(rows["error"], errors),
        }
        if "batch" in rows:  # each log counts its own
            placed["batch"] = np.where(rows["batch"] < 0, -1, rows["batch"] + self._batches)
            self._batches += int(rows["batch"].max(initial=-1)) + 1
        return placed

    def log(self, callers_by_lane: Sequence[int]) -> CallLog:
        """All calls, in the order in which they were due; each process has these callers."""
        parts = self._rows or [
            self._placed(log.columns(), log.errors, place) for log, place in self._raw
        ]
        used = {name: OPTIONAL[name] for name in OPTIONAL if any(name in part for part in parts)}
        dtypes = {**COLUMNS, **used}
        parts = [_with_optional(part, used) for part in parts]
        columns = {
            name: np.concatenate([np.empty(0, dtype), *[part[name] for part in parts]])
            for name, dtype in dtypes.items()
        }
        order = np.argsort(columns["scheduled_ns"], kind="stable")
        log = CallLog.of(
            {name: column[order] for name, column in columns.items()},
            self._errors.found,
            None if self._counter is None else self._counter.tally(self._one_in),
            callers_by_lane,
            open_loop=self._open_loop,
        )
        return replace(log, piece_times=joined(self._piece_times))


def merged(
    logs: Sequence[tuple[CallLog, LogPlace]],
    callers_by_lane: Sequence[int],
    *,
    open_loop: bool,
    inputs: int,
) -> CallLog:
    """One log of all calls of one run; see :class:`Merge`."""
    if len(logs) == 1:  # as it is: it may be the mapped file itself
        return replace(logs[0][0], callers_by_lane=tuple(callers_by_lane), open_loop=open_loop)
    merge = Merge(open_loop=open_loop, inputs=inputs)
    for log, place in logs:
        merge.add(log, place)
    return merge.log(callers_by_lane)


def counted(log: CallLog, callers: int) -> CallLog:
    """A raw log as counts and a sample.

    All ``callers`` serve one queue, unless the log says otherwise.
    """
    if log.tally is not None:
        return log
    queues = log.queues()
    inputs = int(log.input.max(initial=0)) + 1
    merge = Merge(open_loop=log.open_loop, inputs=inputs, most_rows=0)
    for rows, served_by in queues:
        own = log if len(queues) == 1 else log.rows(rows)
        tally = Tally(served_by or callers, inputs, open_loop=log.open_loop)
        tally.add(0, own.columns())
        merge.add(tally.handed_over(log.errors), LogPlace(callers=served_by or callers))
    return replace(merge.log(log.callers_by_lane), piece_times=log.piece_times)


def thinned(log: CallLog, one_in: int) -> CallLog:
    """A counted log with one of so many of its rows."""
    if log.tally is None:
        raise ValueError("only a log that is counted can do without rows")
    tally = replace(log.tally, sampled_one_in=log.tally.sampled_one_in * one_in)
    rows = _thinned(log.columns(), one_in)
    found = CallLog.of(rows, log.errors, tally, log.callers_by_lane, open_loop=log.open_loop)
    return replace(found, piece_times=log.piece_times)


def _numbered(times: PieceTimes, place: LogPlace) -> PieceTimes:
    """With the numbers that callers and inputs have among all."""
    calls = times.calls.copy()
    calls["caller"], calls["input"] = place.numbered(calls["caller"], calls["input"])
    return replace(times, calls=calls)


def _with_optional(rows: Columns, dtypes: Mapping[str, np.dtype[Any]]) -> Columns:
    """Rows with these columns; calls on the CPU have no stages, and whole answers no pieces."""
    count = len(rows["finished_ns"])
    missing = {name: dtype for name, dtype in dtypes.items() if name not in rows}
    return {**rows, **{name: np.full(count, NO_STAGE, of) for name, of in missing.items()}}


def _thinned(rows: Columns, one_in: int) -> Columns:
    """One of so many rows; by their places, not by the numbers that decided what is there."""
    if one_in == 1:
        return rows
    places = np.arange(len(rows["caller"]), dtype=np.uint64)
    kept = np.flatnonzero(in_sample(places, one_in.bit_length() - 1))
    return {name: column[kept] for name, column in rows.items()}


class _Errors:
    """The distinct exceptions of several logs."""

    def __init__(self) -> None:
        self.found: list[CallFailure] = []
        self._number: dict[tuple[str, str], int] = {}
        self._classes = Classes()

    def numbered(self, column: NDArray[Any], errors: Sequence[CallFailure]) -> NDArray[Any]:
        """A log's column of errors, as indexes into those of all logs."""
        if not errors:
            return column
        numbers = [self._place(error) for error in errors]
        found: NDArray[Any] = np.array([*numbers, -1], np.int32)[column]
        return found

    def _place(self, error: CallFailure) -> int:
        key = (error.type, error.message)
        if key not in self._number:
            number = self._classes.number_of(error.type, len(self.found))
            if number < len(self.found):
                return number
            self._number[key] = number
            self.found.append(error)
        return self._number[key]
