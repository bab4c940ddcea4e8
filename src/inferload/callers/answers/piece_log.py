"""What one caller notes of the pieces that its calls give: columns of its rows, and a sample."""

from __future__ import annotations

import random
from array import array
from typing import TYPE_CHECKING, Any

import numpy as np

from inferload.log.calls import NO_STAGE, PIECES
from inferload.log.piece_times import CALLS_DTYPE, MOST_OF_A_CALL, MOST_TIMES, PieceTimes

if TYPE_CHECKING:
    from inferload.callers.job import Job

# However many callers share the sample, each keeps so many times.
_LEAST_TIMES = 64


class PieceLog:
    """The pieces of one caller's calls.

    The times of single pieces are kept of a share of the calls, which is halved whenever they are
    too many; which calls are in it is drawn from the run's seed, whatever they do. Memory for them
    is taken, and touched, before the calls: it is none that the model grows by.
    """

    def __init__(self, job: Job, caller: int) -> None:
        self._log = job.log
        self._caller = caller
        self._draw = random.Random(f"{job.seed}/{caller}").random  # noqa: S311 - no secret
        self._share = 1.0
        self._room = max(MOST_TIMES // job.callers, _LEAST_TIMES)
        self._drawn = 0.0
        self._columns: dict[str, Any] = {}
        #: Calls whose times are still to be put with the others, between two calls.
        self._pending: list[tuple[int, int, bool, float, list[int]]] = []
        self._calls = np.empty(0, CALLS_DTYPE)
        self._times = np.empty(0, np.int64)
        self._used_calls = self._used_times = 0

    def begin(self) -> None:
        """The columns of the log are there now, and calls from here on have rows."""
        if set(PIECES) <= set(self._log.optional):
            self._columns = {name: column.data for name, column in self._log.columns.items()}
            self._calls = np.ones(self._room, CALLS_DTYPE)
            self._times = np.ones(self._room, np.int64)

    def expect(self, places: slice) -> None:
        """The next calls are those at these places of the log, and answer whole as far as known."""
        if self._columns:
            for name in PIECES:
                self._log.columns[name][places] = NO_STAGE
            self._put_away()

    def most(self) -> int:
        """Of how many pieces of the next call the times are to be kept, at least one."""
        self._drawn = self._draw()
        return min(MOST_OF_A_CALL, self._room) if self._drawn < self._share else 1

    def write(
        self,
        place: int,
        number: int,
        times: list[int],
        more: tuple[int, int],
        tokens: int,
        *,
        returned: bool,
    ) -> None:
        """Note the pieces of a call with an input: ``times`` of the first ones.

        ``more``: how many came after these, and when the last of them did; ``tokens``: of all.
        """
        columns, pieces = self._columns, len(times) + more[0]
        started = columns["started_ns"][place]
        columns["pieces"][place] = pieces
        columns["tokens"][place] = tokens
        if pieces:
            columns["first_piece_ns"][place] = times[0] - started
            columns["last_piece_ns"][place] = (more[1] or times[-1]) - started
            if self._drawn < self._share:
                self._pending.append((number, started, returned, self._drawn, times))

    def _put_away(self) -> None:
        """Put the times of calls that have ended with the others."""
        for number, started, returned, drawn, times in self._pending:
            count = len(times)
            while self._used_times + count > self._room and self._share > 0:
                self._thin()
            if drawn >= self._share:
                continue
            call, end = self._used_calls, self._used_times + count
            self._calls[call] = (self._caller, number, started, count, returned, drawn)
            self._times[self._used_times : end] = np.frombuffer(array("q", times), np.int64)
            self._used_calls, self._used_times = call + 1, end
        self._pending.clear()

    def _thin(self) -> None:
        """Keep half of the calls that are kept."""
        self._share /= 2
        own = self._calls[: self._used_calls]
        kept = own["drawn"] < self._share
        left = self._times[: self._used_times][np.repeat(kept, own["pieces"])]
        self._used_calls, self._used_times = int(kept.sum()), len(left)
        self._calls[: self._used_calls] = own[kept]
        self._times[: self._used_times] = left

    def times(self) -> PieceTimes | None:
        """The times that were kept; ``None`` where no call answered in pieces."""
        self._put_away()
        if not self._columns:
            return None
        own = self._calls[: self._used_calls]
        times = self._times[: self._used_times].copy()
        return PieceTimes(calls=own.copy(), times_ns=times, share=self._share)
