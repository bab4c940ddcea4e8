"""Settings of a model in this process, held open at once."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from inferload.studies.records.settings import without_samples

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from inferload.callers.crew import Observer, Preparation
    from inferload.callers.local.slices import SlicedCalls
    from inferload.stats.slices.slice import Slice
    from inferload.stats.slices.whole import WholeOfSlices
    from inferload.studies.bench import Turn


class LocalTurns:
    """The settings that are open; ``make`` has the calls of one. A ``TurnsBench``."""

    def __init__(self, make: Callable[[Turn], SlicedCalls]) -> None:
        self._make = make
        self._open: dict[Hashable, SlicedCalls] = {}
        self._stack = ExitStack()

    def open_turn(self, name: Hashable, turn: Turn, observer: Observer) -> Preparation:
        """Prepare calls, under a name."""
        with ExitStack() as stack:
            calls = stack.enter_context(self._make(turn))
            ready = calls.prepare(observer.stage)
            self._stack.push(stack.pop_all())
        self._open[name] = calls
        return ready

    def turn(self, name: Hashable, seconds: float, warmup_calls: int, observer: Observer) -> Slice:
        """The calls of a moment."""
        del observer
        return self._open[name].slice(seconds, warmup_calls)

    def warmed(self, observer: Observer) -> None:
        """Forget the slices there were."""
        del observer
        for one in self._open.values():
            one.forget()

    def close_turns(self, observer: Observer) -> dict[Hashable, WholeOfSlices]:
        """What the slices of each come to, where there are some; and let go of all."""
        del observer
        found = {
            name: replace(whole, summary=without_samples(whole.summary))
            for name, one in self._open.items()
            if (whole := one.whole()) is not None
        }
        self._open.clear()
        self._stack.close()
        return found
