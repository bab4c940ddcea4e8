"""The clock of Python callers: what time it is, and how a caller waits.

A simulated clock stands in for it in tests, behind the same callers, log and summary.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

_PR_SET_TIMERSLACK = 29


class Clock(Protocol):
    """What callers need of time. ``spin_ns``: how long before a due time they stop sleeping."""

    now_ns: Callable[[], int]
    spin_ns: int

    def sleep(self, duration_ns: int) -> None:
        """Sleep; 0 only lets other threads run."""

    def lock(self) -> AbstractContextManager[object]:
        """A lock that callers wait for."""

    def caller(self) -> AbstractContextManager[None]:
        """Entered by every caller's thread for as long as it calls."""


class MonotonicClock:
    """The system's monotonic clock.

    The last 100 us before a due time are spent looking at it: ``clock_nanosleep`` oversleeps by
    25 us in the median even without timer slack.
    """

    spin_ns = 100_000
    now_ns = staticmethod(time.perf_counter_ns)

    def sleep(self, duration_ns: int) -> None:
        """Sleep without the GIL; the last stretch only gives the GIL away for a moment."""
        time.sleep(duration_ns / 1e9)

    def lock(self) -> threading.Lock:
        """A lock."""
        return threading.Lock()

    @contextmanager
    def caller(self) -> Iterator[None]:
        """Set the timer slack of this thread to 1 ns: by default sleeps last 50 us longer."""
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
        yield
