"""Counting the calls of a run that is too long to keep raw, while it goes on.

Which rows are kept raw is decided by a hash of the call's number, so that the sample is uniform
over the run whoever made the calls, and can be thinned as the run grows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from inferload.log.calls import NO_STAGE, PIECE_STAGES, STAGES, CallLog, piece_durations
from inferload.log.window_counter import WindowCounter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from inferload.log.arrays import Int64s
    from inferload.log.failures import CallFailure

SAMPLED_CALLS = 1_000_000
# Rows folded at a time: their temporary arrays stay in the cache.
CHUNK_ROWS = 16_384


def free_since(finished_ns: Int64s, carried_ns: Int64s, callers: int) -> tuple[Int64s, Int64s]:
    """Since when some caller has been free, for calls taken one after another by ``callers``.

    The call taken as number r can begin when r - callers + 1 calls have finished. ``carried_ns``
    are the latest finishes of the calls before these, none at first. Returns the times, of the
    shape of ``finished_ns``, and what the next calls must be given as ``carried_ns``.
    """
    merged = np.sort(np.concatenate([carried_ns, finished_ns]))
    place = np.arange(len(finished_ns)) + len(carried_ns) - callers
    never = np.iinfo(np.int64).min
    free = np.where(place >= 0, merged[np.maximum(place, 0)], never)
    return free, merged[max(len(merged) - callers, 0) :]


class Tally:
    """Counts rows, and keeps a uniform sample of them."""

    def __init__(self, callers: int, inputs: int, *, open_loop: bool) -> None:
        self._callers = callers
        self._open_loop = open_loop
        self._counter = WindowCounter(inputs)
        self._carried = np.empty(0, np.int64)
        self._parts: list[dict[str, NDArray[Any]]] = []
        self._sampled = 0
        self._level = 0  # one row in 2**level is kept

    def add(self, first_row: int, rows: dict[str, NDArray[Any]]) -> None:
        """Count finished rows, numbered from ``first_row``, timed from the start line."""
        for begin in range(0, len(rows["finished_ns"]), CHUNK_ROWS):
            chunk = {name: column[begin : begin + CHUNK_ROWS] for name, column in rows.items()}
            self._count(chunk)
            self._sample(first_row + begin, chunk)

    def _count(self, rows: dict[str, NDArray[Any]]) -> None:
        scheduled, started, finished = (
            rows[name] for name in ("scheduled_ns", "started_ns", "finished_ns")
        )
        durations = {"service_ns": finished - started}
        if self._open_loop:
            durations["response_ns"] = finished - scheduled
            durations["queue_ns"] = started - scheduled
        if self._open_loop and "batch" not in rows:
            free, self._carried = free_since(finished, self._carried, self._callers)
            durations["lateness_ns"] = np.maximum(started - np.maximum(scheduled, free), 0)
        durations |= {
            name: rows[name] for name in STAGES if name in rows and name not in PIECE_STAGES
        }
        durations |= piece_durations(rows)
        if "late_ns" in durations:
            durations["instance_ns"] = started - scheduled - rows["hold_ns"] - rows["late_ns"]
            durations["lateness_ns"] = durations.pop("late_ns")
        if "issue_ns" in rows:
            none = rows["issue_ns"] == NO_STAGE
            wait = durations["service_ns"] - rows["issue_ns"]
            durations["wait_ns"] = np.where(none, NO_STAGE, wait)
        self._counter.add_rows(finished, rows["error"] < 0, rows["input"], durations)

    def _sample(self, first_row: int, rows: dict[str, NDArray[Any]]) -> None:
        number = np.arange(first_row, first_row + len(rows["finished_ns"]), dtype=np.uint64)
        kept = np.flatnonzero(in_sample(number, self._level))
        if len(kept):
            part = {name: column[kept] for name, column in rows.items()}
            part["row"] = number[kept]
            self._parts.append(part)
            self._sampled += len(kept)
        while self._sampled > SAMPLED_CALLS:
            self._level += 1
            for place, part in enumerate(self._parts):
                kept = np.flatnonzero(in_sample(part["row"], self._level))
                self._parts[place] = {name: column[kept] for name, column in part.items()}
            self._sampled = sum(len(part["row"]) for part in self._parts)

    def _joined(self) -> dict[str, Any]:
        return {
            name: np.concatenate([part[name] for part in self._parts]) for name in self._parts[0]
        }

    def handed_over(self, errors: Sequence[CallFailure]) -> CallLog:
        """The sample, with the counts of all calls."""
        rows = self._joined()
        del rows["row"]
        return CallLog.of(
            rows, errors, self._counter.tally(2**self._level), open_loop=self._open_loop
        )


def in_sample(rows: NDArray[np.uint64], level: int) -> NDArray[np.bool_]:
    """Which rows are in a sample of one in ``2**level``; a higher level's are all in a lower one's.

    The hash is the finaliser of SplitMix64 (Steele, Lea & Flood 2014).
    """
    value = rows + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    value = value ^ (value >> np.uint64(31))
    kept: NDArray[np.bool_] = value & np.uint64(2**level - 1) == 0
    return kept
