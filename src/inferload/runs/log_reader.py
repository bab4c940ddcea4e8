"""Reading the log of one process while its callers write it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from inferload.log.calls import NO_STAGE, CallLog
from inferload.log.failures import CallFailure
from inferload.log.kept import save_counts
from inferload.log.tally import CHUNK_ROWS, Tally

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.callers.crew import Part
    from inferload.log.piece_times import PieceTimes
    from inferload.log.ring import CallInFlight

# So full a ring is read, and its places given back.
NEARLY_FULL = 0.9
# After so many rows the counts of a log that may be left behind are saved.
SAVED_ROWS = 64 * CHUNK_ROWS
_TIMES = ("scheduled_ns", "started_ns", "finished_ns")


class LogReader:
    """Counts finished calls, and tallies those that a long run has no room for."""

    def __init__(self, part: Part) -> None:
        self.part = part
        #: How many calls had finished at the last look, and how many rows were claimed.
        self.finished = 0
        self.claimed = 0
        self._all_before = 0
        self._folded = 0
        self._tally: Tally | None = None

    def look(self, now_ns: int) -> None:
        """Count the calls that had finished at ``now_ns``, a moment ago."""
        self.claimed = self._within_room(self.part.running.claimed_rows())
        count, further = self.part.log.finished_calls(self._all_before, self.claimed, now_ns)
        self.finished = self._all_before + count
        self._all_before = further

    def _within_room(self, claimed: int) -> int:
        """Rows that callers have claimed and may write; they wait with those beyond."""
        return min(claimed, self._folded + self.part.log.room)

    def make_room(self, start_ns: int) -> None:
        """Where the log is nearly full, count what has finished, and give its places back."""
        log = self.part.log
        if log.rows > log.room and self.claimed - self._folded > NEARLY_FULL * log.room:
            self._fold(self._all_before, start_ns)

    def _fold(self, until: int, start_ns: int) -> None:
        log = self.part.log
        if until <= self._folded:
            return
        if self._tally is None:
            self._tally = Tally(
                self.part.place.callers, self.part.inputs, open_loop=self.part.queued
            )
        while self._folded < until:
            begin = self._folded
            ranges = self._ranges(begin, min(begin + self._at_once, until))
            end = ranges[-1][1]
            for own in ranges:
                rows = dict(log.rows_between(*own))
                for name in _TIMES:
                    rows[name] = rows[name] - start_ns
                self._tally.add(own[0], rows)
            if log.path is not None:
                save_counts(log.path, self._tally, end)
            for own in ranges:
                log.forget(*own)
            log.note_folded(end)
            self._folded = end
            self.part.running.fold_to(end)

    @property
    def _at_once(self) -> int:
        """So many rows are counted before their places are given back."""
        return CHUNK_ROWS if self.part.log.path is None else SAVED_ROWS

    def _ranges(self, begin: int, end: int) -> list[tuple[int, int]]:
        """Rows in ranges whose arrays stay in the cache, and that do not wrap."""
        room, found = self.part.log.room, []
        while begin < end:
            after = min(begin + CHUNK_ROWS, end, (begin // room + 1) * room)
            found.append((begin, after))
            begin = after
        return found

    def snapshot(self, start_ns: int) -> CallLog:
        """What is known of the calls so far, as a log of its own."""
        if self._tally is not None:
            return self._tally.handed_over(())
        rows = self.part.log.rows_between(0, self.claimed)
        finished = rows["finished_ns"] != 0
        columns: dict[str, Any] = {name: column[finished] for name, column in rows.items()}
        for name in _TIMES:
            columns[name] -= start_ns
        if not self.part.queued:  # a block's column is filled in at its end
            columns["scheduled_ns"] = columns["started_ns"]
        return CallLog.of(columns, open_loop=self.part.queued)

    def collected(
        self,
        start_ns: int,
        claimed: int,
        errors: Sequence[CallFailure],
        hung: Sequence[CallInFlight] = (),
        given_up_ns: int = 0,
        piece_times: PieceTimes | None = None,
    ) -> CallLog:
        """The log of a run that is over, where ``hung`` calls failed when they were given up."""
        found = self._of_all(start_ns, claimed, errors, hung, given_up_ns)
        if piece_times is None:
            return found
        return replace(found, piece_times=piece_times.since(start_ns))

    def _of_all(
        self,
        start_ns: int,
        claimed: int,
        errors: Sequence[CallFailure],
        hung: Sequence[CallInFlight],
        given_up_ns: int,
    ) -> CallLog:
        rest = self.part.log.hand_over(
            start_ns,
            self._folded,
            self._within_room(claimed),
            errors,
            open_loop=self.part.queued,
        )
        if hung:
            rest = _with_hung(rest, hung, start_ns, given_up_ns)
        if self._tally is None:
            return rest
        if len(rest):
            self._tally.add(self._folded, rest.columns())
        return self._tally.handed_over(rest.errors)

    def calls_in_flight(self, claimed: int | None = None) -> list[CallInFlight]:
        """The calls that have started and not finished."""
        return self.part.log.calls_in_flight(
            max(self._folded, self._all_before),
            self._within_room(self.claimed if claimed is None else claimed),
        )


def _with_hung(
    log: CallLog, hung: Sequence[CallInFlight], start_ns: int, given_up_ns: int
) -> CallLog:
    """The log with calls that had not returned, as failed."""
    longest_s = max(given_up_ns - call.started_ns for call in hung) / 1e9
    added = {
        "scheduled_ns": [call.scheduled_ns - start_ns for call in hung],
        "started_ns": [call.started_ns - start_ns for call in hung],
        "finished_ns": [given_up_ns - start_ns for _ in hung],
        "caller": [call.caller for call in hung],
        "input": [call.input for call in hung],
        "error": [len(log.errors) for _ in hung],
    }
    columns = {
        name: np.concatenate(
            [column, np.array(added.get(name, [NO_STAGE] * len(hung)), column.dtype)]
        )
        for name, column in log.columns().items()
    }
    failure = CallFailure(
        type="TimedOut", message=f"had not returned after {longest_s:.3g} s, when it was given up"
    )
    return CallLog.of(columns, (*log.errors, failure), open_loop=log.open_loop)
