"""The event loop that callers are tasks of, and how it waits until a time."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from inferload.callers.job import STOP_POLL_NS
from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from inferload.callers.python.clock import Clock

_CLOCK_MONOTONIC, _FLAGS = 1, os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)
# Loops round their waits up to whole milliseconds; a timer of the kernel's does not.
_ROUNDED_NS = 1_500_000


def new_loop() -> asyncio.AbstractEventLoop:
    """Uvloop's where it is installed, else asyncio's."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def loop_name() -> str:
    """Whose loop :func:`new_loop` gives, with its version."""
    try:
        import uvloop
    except ImportError:
        return "asyncio"
    return f"uvloop {getattr(uvloop, '__version__', '')}".rstrip()


class LoopTimer:
    """Waits in a loop until a time, for one task at a time.

    On Linux by a timer of the kernel that the loop reads as a file (timerfd): asyncio's and
    uvloop's own timers are late by up to a millisecond.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, *, by_kernel: bool) -> None:
        self._loop = loop
        self._now = clock.now_ns
        self._spin_ns = clock.spin_ns
        self._waiting: asyncio.Future[None] | None = None
        self._fd = _timer_fd() if by_kernel else None
        if self._fd is not None:
            loop.add_reader(self._fd, self._rang)

    async def until(self, due_ns: int) -> None:
        """Return at a time, or after ``STOP_POLL_NS``, or when it is woken."""
        left = min(due_ns - self._now(), STOP_POLL_NS) - self._spin_ns
        if left <= 0:
            await asyncio.sleep(0)  # in the last stretch other tasks have their turn between looks
            return
        self._waiting = waiting = self._loop.create_future()
        handle = None
        if self._fd is not None:
            _set_timer(self._fd, left)
        elif self._spin_ns:
            handle = self._loop.call_later(max(left - _ROUNDED_NS, 0) / NS_PER_S, self.wake)
        else:
            handle = self._loop.call_later(left / NS_PER_S, self.wake)
        try:
            await waiting
        finally:
            self._waiting = None
            if handle is not None:
                handle.cancel()

    def wake(self) -> None:
        """Whoever waits goes on."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _rang(self) -> None:
        if self._fd is not None:
            with suppress(BlockingIOError):
                os.read(self._fd, 8)
        self.wake()

    def close(self) -> None:
        """Give the timer back."""
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None


class _Times(ctypes.Structure):
    """``struct itimerspec``: the interval, then the first time, each seconds and nanoseconds."""

    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "in_s", "in_ns")]


def _timer_fd() -> int | None:
    """A timer of the kernel as a file; ``None`` where there is none."""
    if sys.platform != "linux":
        return None
    found = int(_LIBC.timerfd_create(_CLOCK_MONOTONIC, _FLAGS))
    return found if found >= 0 else None


def _set_timer(fd: int, in_ns: int) -> None:
    seconds, rest = divmod(in_ns, NS_PER_S)
    _LIBC.timerfd_settime(fd, 0, ctypes.byref(_Times(0, 0, seconds, rest)), None)


if sys.platform == "linux":
    _LIBC = ctypes.CDLL(None)
