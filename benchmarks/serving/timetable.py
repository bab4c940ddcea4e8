"""Things done at their times, to some microseconds: the loop looks without rest shortly before."""

from __future__ import annotations

import heapq
import time
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

now = time.perf_counter
# Loops round their waits up to whole milliseconds.
_LOOKING_S = 0.002
_MOST_LATE = 1_000_000


class Timetable:
    """What is due, and how late it was done, in milliseconds (``late_ms``)."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = count()
        self._waiting: asyncio.TimerHandle | None = None
        self._looking = False
        self.late_ms: list[float] = []

    def at(self, due: float, do: Callable[..., None], *args: Any) -> None:
        """Have something done."""
        heapq.heappush(self._due, (due, next(self._number), do, args))
        if not self._looking:
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None
            self._look_again()

    def _look_again(self) -> None:
        self._looking = False
        if not self._due:
            return
        left = self._due[0][0] - now()
        if left < _LOOKING_S:
            self._looking = True
            self._loop.call_soon(self._look)
        else:
            self._waiting = self._loop.call_later(left - _LOOKING_S, self._look)

    def _look(self) -> None:
        self._waiting, self._looking = None, True
        while self._due and self._due[0][0] <= (began := now()):
            due, _, do, args = heapq.heappop(self._due)
            if len(self.late_ms) < _MOST_LATE:
                self.late_ms.append((began - due) * 1e3)
            do(*args)
        self._look_again()
