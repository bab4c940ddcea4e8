"""Counts of calls by time window while they are being added up.

When there are too many windows, every two become one of twice the width. Widths are powers of two,
so that counts made apart can be added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from inferload.log import buckets
from inferload.log.buckets import WindowCounts
from inferload.log.calls import NO_STAGE, CallTally

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inferload.log.arrays import Floats, Int64s

MOST_WINDOWS = 128
# Stages are those of some calls alone.
OF_EVERY_CALL = {"response_ns", "service_ns", "queue_ns", "lateness_ns"}


class WindowCounter:
    """Dense counts of up to 128 windows, which grow wider with the run, of durations by name.

    ``dtype``: of the counts; 4 bytes hold those of one process.
    """

    def __init__(self, inputs: int, *, dtype: Any = np.uint32) -> None:
        self._dtype = dtype
        self._counts: dict[str, NDArray[Any]] = {}
        self._sums: dict[str, Floats] = {}
        self._lows: dict[str, int] = {}
        self._highs: dict[str, int] = {}
        self._returned = np.zeros((MOST_WINDOWS, inputs), np.int64)
        self._failed = np.zeros(MOST_WINDOWS, np.int64)
        self._failed_ns = np.zeros(MOST_WINDOWS)
        self._first_ns, self._last_ns = 2**63 - 1, 0
        self._width_ns = 0

    def add_rows(
        self,
        finished_ns: Int64s,
        well: NDArray[np.bool_],
        inputs: NDArray[Any],
        durations: dict[str, Int64s],
    ) -> None:
        """Count calls; those that are not ``well`` have failed, and are not timed."""
        last = int(finished_ns.max())
        self._first_ns = min(self._first_ns, int((finished_ns - durations["service_ns"]).min()))
        self._hold(last, 1 << max(last // (MOST_WINDOWS // 2), 1).bit_length())
        window = finished_ns // self._width_ns
        if not well.all():
            whole = durations.get("response_ns", durations["service_ns"])
            self._failed += np.bincount(window[~well], minlength=MOST_WINDOWS)
            self._failed_ns += np.bincount(window[~well], whole[~well], MOST_WINDOWS)
        # rows that follow each other nearly always finished in the same window
        for place in range(int(window.min()), int(window.max()) + 1):
            here = well & (window == place)
            if not here.any():
                continue
            mine = inputs[here]
            self._returned[place] += np.bincount(mine, minlength=self._returned.shape[1])
            for name, values in durations.items():
                own = values[here]
                if name not in OF_EVERY_CALL:
                    own = own[own != NO_STAGE]
                if len(own):
                    self._count_values(name, place, own)

    def add_counts(self, other: CallTally, first_input: int = 0) -> None:
        """Add counts made apart, whose inputs are numbered from ``first_input`` here."""
        self._hold(other.last_finished_ns, other.width_ns)
        self._first_ns = min(self._first_ns, other.first_started_ns)
        while self._width_ns < other.width_ns:
            self._widen()
        factor = self._width_ns // other.width_ns
        to = np.arange(len(other.failed)) // factor
        np.add.at(self._failed, to, other.failed)
        np.add.at(self._failed_ns, to, other.failed_ns)
        inputs = slice(first_input, first_input + other.returned_by_input.shape[1])
        np.add.at(self._returned[:, inputs], to, other.returned_by_input)
        for name, counts in other.counts.items():
            window, bucket = np.divmod(counts.cells, buckets.BUCKETS)
            cells = window // factor * buckets.BUCKETS + bucket
            self._have(name)
            np.add.at(self._counts[name].reshape(-1), cells, counts.counts.astype(self._dtype))
            np.add.at(self._sums[name], to, other.sums[name])
            self._lows[name] = min(self._lows[name], other.lows[name])
            self._highs[name] = max(self._highs[name], other.highs[name])

    def _hold(self, last_ns: int, width_ns: int) -> None:
        """Have windows up to a time, of a width if there are none yet."""
        self._last_ns = max(self._last_ns, last_ns)
        self._width_ns = self._width_ns or width_ns
        while last_ns // self._width_ns >= MOST_WINDOWS:
            self._widen()

    def _have(self, name: str) -> None:
        if name not in self._counts:
            self._counts[name] = np.zeros((MOST_WINDOWS, buckets.BUCKETS), self._dtype)
            self._sums[name] = np.zeros(MOST_WINDOWS)
            self._lows[name], self._highs[name] = 2**63 - 1, 0

    def _count_values(self, name: str, window: int, values: Int64s) -> None:
        count = np.bincount(buckets.bucket_of(values))
        self._have(name)
        self._counts[name][window, : len(count)] += count.astype(self._dtype)
        self._sums[name][window] += values.sum()
        self._lows[name] = min(self._lows[name], int(values.min()))
        self._highs[name] = max(self._highs[name], int(values.max()))

    def _widen(self) -> None:
        self._width_ns *= 2
        arrays: list[NDArray[Any]] = [*self._counts.values(), *self._sums.values()]
        for array in [*arrays, self._returned, self._failed, self._failed_ns]:
            array[: MOST_WINDOWS // 2] = array[0::2] + array[1::2]
            array[MOST_WINDOWS // 2 :] = 0

    def tally(self, sampled_one_in: int) -> CallTally:
        """What was counted so far."""
        used = int(self._last_ns // self._width_ns) + 1
        return CallTally(
            width_ns=self._width_ns,
            counts={name: WindowCounts.of(array[:used]) for name, array in self._counts.items()},
            sums={name: array[:used].copy() for name, array in self._sums.items()},
            lows=dict(self._lows),
            highs=dict(self._highs),
            returned_by_input=self._returned[:used].copy(),
            failed=self._failed[:used].copy(),
            failed_ns=self._failed_ns[:used].copy(),
            last_finished_ns=self._last_ns,
            first_started_ns=self._first_ns if self._first_ns <= self._last_ns else 0,
            sampled_one_in=sampled_one_in,
        )
