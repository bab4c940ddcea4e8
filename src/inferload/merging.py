"""Several logs into one: raw values concatenated, or counts of one layout added.

Percentiles are never averaged.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from inferload.call_log import DISTINCT_ERRORS, CallFailure, CallLog
from inferload.log_file import COLUMNS, KEPT_CALLS
from inferload.tally import SAMPLED_CALLS, Tally, added, in_sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from inferload.call_log import CallTally

    Columns = dict[str, NDArray[Any]]


def merged(logs: Sequence[CallLog], callers: int) -> CallLog:
    """One log of all calls, with callers numbered through: each log has so many.

    Rows stand in the order in which calls were due. Where one of the logs is counted, or all of
    them together have more rows than a log keeps raw, all are counted and the rows are a sample.
    """
    if len(logs) == 1:
        return replace(logs[0], callers_per_process=callers)
    numbered = [(number, log) for number, log in enumerate(logs) if log.calls_made]
    counted = any(log.tally is not None for log in logs)
    tally = None
    if counted or sum(map(len, logs)) > KEPT_CALLS:
        # told by all of them: the calls of one process may all start when they are due
        open_loop = any(_is_open(log) for log in logs)
        numbered = [
            (number, log if log.tally else _tallied(log, callers, open_loop=open_loop))
            for number, log in numbered
        ]
        tally = _added([log for _, log in numbered])
    parts = []
    errors = _Errors()
    for number, log in numbered or [(0, logs[0])]:
        part = _columns(log) if tally is None else _thinned(log, tally.sampled_one_in)
        part["caller"] = part["caller"] + np.int32(number * callers)
        part["error"] = errors.numbered(part["error"], log.errors)
        parts.append(part)
    columns = {name: np.concatenate([part[name] for part in parts]) for name in COLUMNS}
    order = np.argsort(columns["scheduled_ns"], kind="stable")
    return CallLog(
        **{name: column[order] for name, column in columns.items()},
        errors=tuple(errors.found),
        tally=tally,
        callers_per_process=callers,
    )


def _columns(log: CallLog) -> Columns:
    return {name: getattr(log, name) for name in COLUMNS}


def _is_open(log: CallLog) -> bool:
    if log.tally is not None:
        return "response_ns" in log.tally.counts
    return not np.array_equal(log.scheduled_ns, log.started_ns)


def _tallied(log: CallLog, callers: int, *, open_loop: bool) -> CallLog:
    tally = Tally(callers, int(log.input.max()) + 1, open_loop=open_loop)
    tally.add(0, _columns(log))
    return tally.handed_over(log.errors)


def _added(logs: Sequence[CallLog]) -> CallTally:
    """The counts of all logs, and one call in how many can be kept as a row."""
    total = added([log.tally for log in logs if log.tally is not None])
    one_in = total.sampled_one_in
    while total.calls / one_in > 1.1 * SAMPLED_CALLS:
        one_in *= 2
    return replace(total, sampled_one_in=one_in)


def _thinned(log: CallLog, one_in: int) -> Columns:
    """The rows of a log of which one call in ``one_in`` is kept."""
    so_far = 1 if log.tally is None else log.tally.sampled_one_in
    level = (one_in // so_far).bit_length() - 1
    # by place, not by the number of the call, which decided what is there
    kept = np.flatnonzero(in_sample(np.arange(len(log), dtype=np.uint64), level))
    return {name: column[kept] for name, column in _columns(log).items()}


class _Errors:
    """The distinct exceptions of several logs."""

    def __init__(self) -> None:
        self.found: list[CallFailure] = []
        self._number: dict[tuple[str, str], int] = {}

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
            if len(self.found) == DISTINCT_ERRORS:
                return DISTINCT_ERRORS - 1
            self._number[key] = len(self.found)
            self.found.append(error)
        return self._number[key]
