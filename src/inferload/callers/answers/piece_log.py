"""What callers note of the pieces that their calls give: columns of their rows, and a sample."""

from __future__ import annotations

import random
import threading
from array import array
from typing import TYPE_CHECKING, Any

import numpy as np

from inferload.log.calls import NO_STAGE, PIECES
from inferload.log.piece_times import CALLS_DTYPE, MOST_OF_A_CALL, MOST_TIMES, PieceTimes
from inferload.targets.outputs.piece import MOST_TOKENS

if TYPE_CHECKING:
    from inferload.callers.job import Job


class PiecePool:
    """The times of single pieces, of a share of the calls of all callers of one queue.

    The share is halved whenever they are too many. Memory for them is taken, and touched, before
    the calls: it is none that the model grows by.
    """

    def __init__(self) -> None:
        self.share = 1.0
        self._calls = np.empty(0, CALLS_DTYPE)
        self._times = np.empty(0, np.int64)
        self._used_calls = self._used_times = 0
        self._lock = threading.Lock()

    def begin(self, room: int) -> None:
        """Have memory for so many times."""
        with self._lock:
            if not len(self._times):
                self._calls = np.ones(room, CALLS_DTYPE)
                self._times = np.ones(room, np.int64)

    def put(self, caller: int, pending: list[tuple[int, int, bool, float, list[int]]]) -> None:
        """Keep the times of calls of one caller that have ended."""
        with self._lock:
            for number, started, returned, drawn, times in pending:
                count = len(times)
                while self._used_times + count > len(self._times):
                    self._thin()
                if drawn < self.share:
                    call, end = self._used_calls, self._used_times + count
                    self._calls[call] = (caller, number, started, count, returned, drawn)
                    self._times[self._used_times : end] = np.frombuffer(array("q", times), np.int64)
                    self._used_calls, self._used_times = call + 1, end

    def _thin(self) -> None:
        """Keep half of the calls that are kept."""
        self.share /= 2
        own = self._calls[: self._used_calls]
        kept = own["drawn"] < self.share
        left = self._times[: self._used_times][np.repeat(kept, own["pieces"])]
        self._used_calls, self._used_times = int(kept.sum()), len(left)
        self._calls[: self._used_calls] = own[kept]
        self._times[: self._used_times] = left

    def found(self) -> PieceTimes | None:
        """The times that were kept; ``None`` where no call could answer in pieces."""
        with self._lock:
            if not len(self._times):
                return None
            return PieceTimes(
                calls=self._calls[: self._used_calls].copy(),
                times_ns=self._times[: self._used_times].copy(),
                share=self.share,
            )


class PieceLog:
    """The pieces of one caller's calls; which of them are in the ``pool`` the run's seed draws."""

    def __init__(self, job: Job, caller: int, pool: PiecePool) -> None:
        self._log = job.log
        self._caller = caller
        self._pool = pool
        self._draw = random.Random(f"{job.seed}/{caller}").random  # noqa: S311 - no secret
        self._drawn = 0.0
        self._columns: dict[str, Any] = {}
        #: Calls whose times are still to be put into the pool, between two calls.
        self._pending: list[tuple[int, int, bool, float, list[int]]] = []

    def make_room(self) -> None:
        """Have memory for times before the start line: it takes 5 ms to be had."""
        if set(PIECES) <= set(self._log.optional):
            self._pool.begin(MOST_TIMES)

    def begin(self) -> None:
        """The columns of the log are there now, and calls from here on have rows."""
        if set(PIECES) <= set(self._log.optional):
            self._columns = {name: column.data for name, column in self._log.columns.items()}
            self._pool.begin(MOST_TIMES)

    def expect(self, places: slice) -> None:
        """The next calls are those at these places of the log, and answer whole as far as known."""
        if self._columns:
            for name in PIECES:
                self._log.columns[name][places] = NO_STAGE
            self.put_away()

    def put_away(self) -> None:
        """Put the times of calls that have ended into the pool."""
        if self._pending:
            self._pool.put(self._caller, self._pending)
            self._pending = []

    def most(self) -> int:
        """Of how many pieces of the next call the times are to be kept, at least one."""
        self._drawn = self._draw()
        return min(MOST_OF_A_CALL, MOST_TIMES) if self._drawn < self._pool.share else 1

    def write(
        self, place: int, number: int, times: list[int], pieces: tuple[int, int, int], *,
        returned: bool,
    ) -> None:  # fmt: skip
        """Note the pieces of a call with an input: ``times`` of the first ones.

        ``pieces``: how many there were, when the last one came, and how many tokens they are.
        """
        columns, (count, last, tokens) = self._columns, pieces
        started = columns["started_ns"][place]
        columns["pieces"][place] = count
        columns["tokens"][place] = min(tokens, MOST_TOKENS)
        if count:
            columns["first_piece_ns"][place] = times[0] - started
            columns["last_piece_ns"][place] = last - started
            if self._drawn < self._pool.share:
                self._pending.append((number, started, returned, self._drawn, times))
