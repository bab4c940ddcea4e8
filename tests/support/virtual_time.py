"""A simulated clock, and targets that take simulated time.

Callers run as threads, as ever, but only the clock lets them wait: when all of them wait, time
jumps to the next moment at which one goes on. A run of hours takes seconds, and its figures are
exact.
"""

from __future__ import annotations

import heapq
import threading
from contextlib import contextmanager
from itertools import count

import numpy as np
import torch

import inferload as il
from inferload.callers.python.executor import ThreadsExecutor


class VirtualClock:
    """Stands in for ``MonotonicClock``."""

    spin_ns = 0

    def __init__(self) -> None:
        self._time_ns = 0
        self._mutex = threading.Lock()
        self._sleepers: list[tuple[int, int, threading.Event]] = []
        self._numbers = count()
        self._running = 0

    def now_ns(self) -> int:
        return self._time_ns

    def sleep(self, duration_ns: int) -> None:
        until = self._time_ns + duration_ns
        with self._mutex:
            alone = self._running <= 1  # or in the thread that prepares
            if alone and not (self._sleepers and self._sleepers[0][0] <= until):
                self._time_ns = until
                return
            mine = threading.Event()
            heapq.heappush(self._sleepers, (until, next(self._numbers), mine))
            self._pause()
        mine.wait()

    def lock(self) -> VirtualLock:
        return VirtualLock(self)

    def waiter(self) -> VirtualWaiter:
        return VirtualWaiter(self)

    @contextmanager
    def caller(self):
        with self._mutex:
            self._running += 1
        try:
            yield
        finally:
            with self._mutex:
                self._pause()

    def _pause(self) -> None:
        """One thread fewer runs; when none does, the next sleeper is woken."""
        self._running -= 1
        if self._running == 0 and self._sleepers:
            self._time_ns, _, event = heapq.heappop(self._sleepers)
            self._running += 1
            event.set()


class VirtualLock:
    """First come, first served."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._taken = False
        self._waiting: list[threading.Event] = []

    def __enter__(self) -> None:
        with self._clock._mutex:
            if not self._taken:
                self._taken = True
                return
            mine = threading.Event()
            self._waiting.append(mine)
            self._clock._pause()
        mine.wait()

    def __exit__(self, *_: object) -> None:
        with self._clock._mutex:
            if not self._waiting:
                self._taken = False
                return
            self._clock._running += 1
            self._waiting.pop(0).set()


class VirtualWaiter:
    """A sleep that another thread may end; once it was woken, the next one ends at once."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._mine: threading.Event | None = None
        self._woken = False

    def wait(self, duration_ns: int) -> None:
        clock = self._clock
        with clock._mutex:
            if self._woken:
                self._woken = False
                return
            until = clock._time_ns + duration_ns
            self._mine = mine = threading.Event()
            heapq.heappush(clock._sleepers, (until, next(clock._numbers), mine))
            clock._pause()
        mine.wait()
        with clock._mutex:
            self._mine, self._woken = None, False

    def wake(self) -> None:
        clock = self._clock
        with clock._mutex:
            self._woken = True
            asleep = [one for one in clock._sleepers if one[2] is self._mine]
            if asleep:
                clock._sleepers.remove(asleep[0])
                heapq.heapify(clock._sleepers)
                clock._running += 1
                asleep[0][2].set()


def simulated(service_ns: object, load: object, **options: object) -> il.RunResult:
    """A run of a target that takes so long: a number, an array, or ``f(clock)`` making a target."""
    clock = VirtualClock()
    if callable(service_ns):
        target = service_ns(clock)
    elif isinstance(service_ns, np.ndarray):
        durations = iter(service_ns.tolist())
        target = lambda _: clock.sleep(next(durations))  # noqa: E731
    else:
        target = lambda _: clock.sleep(service_ns)  # noqa: E731
    given = {"warmup_calls": 0, "warmup": "fixed", "executor": ThreadsExecutor(clock)}
    return il.run(target, [torch.zeros(1)], load=load, **given | options)


def replayed(scheduled_ns, service_ns, callers: int):
    """When each call starts if ``callers`` serve one queue exactly: a heap of free callers."""
    free = [-(2**62)] * callers
    started = np.empty(len(scheduled_ns), np.int64)
    for row, (due, service) in enumerate(
        zip(scheduled_ns.tolist(), service_ns.tolist(), strict=True)
    ):
        begin = max(due, free[0])
        started[row] = begin
        heapq.heapreplace(free, begin + service)
    return started
