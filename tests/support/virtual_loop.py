"""Tasks on a simulated clock: a loop in which time passes only while all of them wait."""

from __future__ import annotations

import asyncio
import selectors

import torch

import inferload as il
from inferload.callers.tasks.executor import TasksExecutor
from support.virtual_time import VirtualClock


class _NoWait(selectors.DefaultSelector):
    """What would wait lets time pass; wake-ups by other threads are seen as ever."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None):
        found = super().select(0)
        if found or timeout == 0:
            return found
        if timeout is None:
            return super().select(None)
        self._clock._time_ns += round(timeout * 1e9)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop by a simulated clock."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(_NoWait(clock))
        self._virtual = clock

    def time(self) -> float:
        return self._virtual.now_ns() / 1e9


def simulated_tasks(of: object, load: object, **options: object) -> il.RunResult:
    """A run of tasks; ``of(clock)`` makes the target, which sleeps by ``asyncio``."""
    clock = VirtualClock()
    executor = TasksExecutor(clock, lambda: VirtualLoop(clock))
    given = {"warmup_calls": 0, "warmup": "fixed", "executor": executor}
    return il.run(of(clock), [torch.zeros(1)], load=load, **given | options)
