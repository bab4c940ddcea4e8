"""The clock of Python callers: what time it is, and how a caller waits.

A simulated clock stands in for it in tests, behind the same callers, log and summary.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

_PR_SET_TIMERSLACK = 29
if sys.platform == "linux":
    _LIBC = ctypes.PyDLL(None)  # the GIL is kept: the call is shorter than giving it away


class Clock(Protocol):
    """What callers need of time. ``spin_ns``: how long before a due time they stop sleeping."""

    now_ns: Callable[[], int]
    spin_ns: int

    def sleep(self, duration_ns: int) -> None:
        """Sleep; 0 only lets other threads run."""

    def lock(self) -> AbstractContextManager[object]:
        """A lock that callers wait for."""

    def waiter(self) -> Waiter:
        """What one caller waits by while others may wake it."""

    def caller(self) -> AbstractContextManager[None]:
        """Entered by every caller's thread for as long as it calls."""


class Waiter(Protocol):
    """A caller waits for a time, or until another one wakes it."""

    def wait(self, duration_ns: int) -> None:
        """Wait so long; 0 only lets other threads run."""

    def wake(self) -> None:
        """Whoever waits goes on now; if nobody does, the next one who would wait does not."""


class MonotonicClock:
    """The system's monotonic clock.

    The last 100 us before a due time are spent looking at it: ``clock_nanosleep`` oversleeps by
    25 us in the median even without timer slack.
    """

    spin_ns = 100_000
    now_ns = staticmethod(time.perf_counter_ns)

    def sleep(self, duration_ns: int) -> None:
        """Sleep without the GIL; the last stretch only gives the GIL away for a moment.

        By default sleeps last 50 us longer. A thread without that slack pays for it wherever it
        waits, for the GIL above all, whose waits have a time limit. So it is without it only while
        it sleeps here, as native callers are in open loops alone.
        """
        if duration_ns <= 0:
            time.sleep(0)
            return
        _set_timer_slack(1)
        time.sleep(duration_ns / 1e9)
        _set_timer_slack(0)

    def lock(self) -> threading.Lock:
        """A lock."""
        return threading.Lock()

    def waiter(self) -> Waiter:
        """An event of this clock."""
        return _EventWaiter()

    def caller(self) -> AbstractContextManager[None]:
        """Nothing: each thread sleeps by itself."""
        return nullcontext()


class _EventWaiter:
    """Waits for an event, by the system's clock."""

    def __init__(self) -> None:
        self._woken = threading.Event()

    def wait(self, duration_ns: int) -> None:
        """Wait so long, or until :meth:`wake`."""
        if duration_ns <= 0:
            time.sleep(0)
        else:
            _set_timer_slack(1)
            self._woken.wait(duration_ns / 1e9)
            _set_timer_slack(0)
        self._woken.clear()

    def wake(self) -> None:
        """Whoever waits goes on."""
        self._woken.set()


def _set_timer_slack(slack_ns: int) -> None:
    """Set that of this thread; 0: as it was when the thread began."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_TIMERSLACK, slack_ns, 0, 0, 0)
