"""How late the event loop is for what is due: calls that do not await hold up all others."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from inferload.units import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from inferload.callers.outcome import Outcome
    from inferload.callers.python.run import Run

BEAT_NS = 20_000_000
# Of a longer run every second beat is forgotten, and so on.
_MOST_BEATS = 65_536


class LoopLag:
    """Looks how late a task is that sleeps, while calls are measured."""

    def __init__(self, run: Run) -> None:
        self._now = run.clock.now_ns
        self._late_ns: list[int] = []

    async def beat(self, go: asyncio.Event) -> None:
        """Sleep again and again until this is cancelled; loops round up to milliseconds."""
        await go.wait()
        while True:
            due = self._now() + BEAT_NS
            await asyncio.sleep(BEAT_NS / NS_PER_S)
            self._late_ns.append(max(self._now() - due - NS_PER_MS, 0))
            if len(self._late_ns) == _MOST_BEATS:
                self._late_ns = self._late_ns[::2]

    def with_lag(self, outcome: Outcome) -> Outcome:
        """With the median lag and the longest one, in milliseconds."""
        if len(self._late_ns) < 3:
            return outcome
        late = np.array(self._late_ns) / NS_PER_MS
        return replace(outcome, loop_lag_ms=(float(np.median(late)), float(late.max())))
