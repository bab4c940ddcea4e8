"""Counting the calls of a run that is too long to keep raw, while it goes on.

Time is cut into windows; when there are too many, every two become one of twice the width. Which
rows are kept raw is decided by a hash of the call's number, so that the sample is uniform over the
run whoever made the calls, and can be thinned as the run grows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from inferload import hdr
from inferload.call_log import CallFailure, CallLog, CallTally

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from inferload.call_log import Int64s

MOST_WINDOWS = 128
SAMPLED_CALLS = 1_000_000
DURATIONS = ("response_ns", "service_ns", "queue_ns", "lateness_ns")
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
        self._width_ns = 0
        names = DURATIONS if open_loop else DURATIONS[1:2]
        self._counts = {n: np.zeros((MOST_WINDOWS, hdr.BUCKETS), np.uint32) for n in names}
        self._sums = {name: np.zeros(MOST_WINDOWS) for name in names}
        self._lows = dict.fromkeys(names, 2**63 - 1)
        self._highs = dict.fromkeys(names, 0)
        self._returned = np.zeros((MOST_WINDOWS, inputs), np.int64)
        self._failed = np.zeros(MOST_WINDOWS, np.int64)
        self._last_ns = 0
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
        last = int(finished.max())
        self._last_ns = max(self._last_ns, last)
        if not self._width_ns:
            # a power of two, so that the windows of several tallies can be added
            self._width_ns = 1 << max(last // (MOST_WINDOWS // 2), 1).bit_length()
        while last // self._width_ns >= MOST_WINDOWS:
            self._widen()
        window = finished // self._width_ns
        well = rows["error"] < 0
        if not well.all():
            self._failed += np.bincount(window[~well], minlength=MOST_WINDOWS)
        durations = {"service_ns": finished - started}
        if self._open_loop:
            free, self._carried = free_since(finished, self._carried, self._callers)
            durations["response_ns"] = finished - scheduled
            durations["queue_ns"] = started - scheduled
            durations["lateness_ns"] = np.maximum(started - np.maximum(scheduled, free), 0)
        # rows that follow each other nearly always finished in the same window
        for place in range(int(window.min()), int(window.max()) + 1):
            here = well & (window == place)
            if not here.any():
                continue
            inputs = rows["input"][here]
            self._returned[place] += np.bincount(inputs, minlength=self._returned.shape[1])
            for name, values in durations.items():
                self._count_values(name, place, values[here])

    def _count_values(self, name: str, window: int, values: Int64s) -> None:
        count = np.bincount(hdr.bucket_of(values))
        self._counts[name][window, : len(count)] += count.astype(np.uint32)
        self._sums[name][window] += values.sum()
        self._lows[name] = min(self._lows[name], int(values.min()))
        self._highs[name] = max(self._highs[name], int(values.max()))

    def _widen(self) -> None:
        self._width_ns *= 2
        arrays: list[NDArray[Any]] = [*self._counts.values(), *self._sums.values()]
        for array in [*arrays, self._returned, self._failed]:
            array[: MOST_WINDOWS // 2] = array[0::2] + array[1::2]
            array[MOST_WINDOWS // 2 :] = 0

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
        used = int(self._last_ns // self._width_ns) + 1
        counts = {name: array[:used] for name, array in self._counts.items()}
        sums, lows, highs = self._sums, self._lows, self._highs
        tally = CallTally(
            width_ns=self._width_ns,
            counts=counts,
            sums={name: array[:used] for name, array in sums.items()},
            lows=lows,
            highs=highs,
            returned_by_input=self._returned[:used],
            failed=self._failed[:used],
            last_finished_ns=self._last_ns,
            sampled_one_in=2**self._level,
        )
        return CallLog(**rows, errors=tuple(errors), tally=tally)


def added(tallies: Sequence[CallTally]) -> CallTally:
    """The counts of all, in the widest of their windows."""
    width_ns = max(one.width_ns for one in tallies)
    last_ns = max(one.last_finished_ns for one in tallies)
    windows = last_ns // width_ns + 1
    factors = [width_ns // one.width_ns for one in tallies]
    calls = sum(one.calls for one in tallies)
    first = tallies[0]
    inputs = max(one.returned_by_input.shape[1] for one in tallies)

    def total(arrays: Sequence[NDArray[Any]], dtype: Any, *more: int) -> NDArray[Any]:
        found = np.zeros((windows, *more), dtype)
        for array, factor in zip(arrays, factors, strict=True):
            for phase in range(factor):
                part = array[phase::factor]
                found[(slice(len(part)), *(slice(size) for size in part.shape[1:]))] += part
        return found

    counted = np.uint32 if calls < 2**32 else np.uint64
    names = list(first.counts)
    return CallTally(
        width_ns=width_ns,
        counts={
            name: total([one.counts[name] for one in tallies], counted, hdr.BUCKETS)
            for name in names
        },
        sums={name: total([one.sums[name] for one in tallies], np.float64) for name in names},
        lows={name: min(one.lows[name] for one in tallies) for name in names},
        highs={name: max(one.highs[name] for one in tallies) for name in names},
        returned_by_input=total([one.returned_by_input for one in tallies], np.int64, inputs),
        failed=total([one.failed for one in tallies], np.int64),
        last_finished_ns=last_ns,
        sampled_one_in=max(one.sampled_one_in for one in tallies),
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
