"""Pairs of fresh processes, one for each side, called in turn until there are enough of them."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from inferload.stats.slices.judging import FEWEST_PROCESS_PAIRS
from inferload.stats.slices.ratios import pair_figures
from inferload.stats.slices.states import state_s
from inferload.studies.compare import said_of
from inferload.studies.records.settings import Settings
from inferload.studies.records.slices import SlicedPair, Timing
from inferload.studies.slices.cores import cores_of
from inferload.studies.slices.plan import Known, timed, warm_up_calls
from inferload.units import count_text, duration_text, rate_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from inferload.callers.crew import Observer, Preparation
    from inferload.plan.options import RunOptions
    from inferload.stats.slices.slice import Slice
    from inferload.studies.bench import StudyObserver
    from inferload.studies.slices.plan import SlicePlan

# A process is called for so long before its slices count: what it has to learn, it knows then. The
# first ones say how long the machine keeps its pace.
_WARM_S, _WARM_SLICE_S, _FEWEST_WARM = 0.5, 0.04, 2
# Beyond it a change is told as a factor.
_LARGE = 3.0


class SliceBench(Protocol):
    """Makes slices of one side, each time it is opened in a fresh process."""

    def begin_opening(
        self,
        settings: Settings,
        options: RunOptions,
        cpus: Sequence[Sequence[int]],
        observer: Observer,
    ) -> None:
        """Have a fresh process prepare calls, and do not wait for it."""

    def opened(self, observer: Observer) -> Preparation:
        """Wait for it; what run its slices would be."""

    def slice(self, seconds: float, warmup_calls: int, observer: Observer) -> Slice:
        """The calls of a moment, after so many others."""

    def close(self) -> None:
        """End the process."""


@dataclass(slots=True)
class Sliced:
    """What there is so far: pairs of processes, and of what run each side's first slices were."""

    pairs: list[SlicedPair] = field(default_factory=list)
    ready: dict[str, Preparation] = field(default_factory=dict)
    timing: Timing | None = None


class SliceEngine:
    """Makes pairs of processes, one after another; ``found`` is what there is.

    ``timing``: how the time is spent, where that is not to be planned.
    """

    def __init__(
        self,
        plan: SlicePlan,
        benches: Mapping[str, SliceBench],
        observer: StudyObserver,
        clock: Callable[[], float] = time.monotonic,
        timing: Timing | None = None,
    ) -> None:
        self._plan, self._benches, self._fixed = plan, benches, timing
        self._observer, self._clock = observer, clock
        self._names = {"a": plan.a, "b": plan.b}
        #: How long it takes to start a pair of processes and to warm them up.
        self._start_s, self._close_s = math.inf, 0.0
        self.found = Sliced()

    def pair(self) -> SlicedPair:
        """Start one more pair of processes, call them in turn, and end them.

        Raises:
            InferloadError: a side failed.
        """
        plan, number = self._plan, len(self.found.pairs)
        rng = np.random.default_rng([plan.seed, number])
        began = self._clock()
        of = "" if self.found.timing is None else f" of {self.found.timing.pairs}"
        self._observer.begins(f"pair of processes {number + 1}{of}{self._left_text()}")
        cores = cores_of(plan.options["a"], plan.options["b"], rng)
        try:
            for side in rng.permutation(["a", "b"]):
                self._benches[side].begin_opening(
                    plan.settings.get(side, Settings()), plan.options[side], cores, self._observer
                )
            for side in "ab":
                with said_of(side, self._names[side]):
                    self.found.ready[side] = self._benches[side].opened(self._observer)
            warm = self._warm()
            timing = self._timing(warm, self._clock() - began)
            order, slices = self._slices(timing, rng, warm)
        finally:
            closing = self._clock()
            for bench in self._benches.values():
                bench.close()
            self._close_s = self._clock() - closing
        made = SlicedPair(
            order=order,
            slice_s=timing.slice_s,
            a_per_s=tuple(one.items_per_s for one in slices["a"]),
            b_per_s=tuple(one.items_per_s for one in slices["b"]),
            figures=pair_figures(slices["a"], slices["b"]),
            calls=(sum(one.calls for one in slices["a"]), sum(one.calls for one in slices["b"])),
            failed=(sum(one.failed for one in slices["a"]), sum(one.failed for one in slices["b"])),
            cores=tuple(sorted({cpu for own in cores for cpu in own})),
            took_s=self._clock() - began,
        )
        self.found.timing = timing
        self.found.pairs.append(made)
        rate = made.figures[0]
        self._observer.found(
            f"A {rate_text(rate.a)}/s, B {rate_text(rate.b)}/s, "
            f"B / A {_change_text(rate.log_ratio)} in {count_text(rate.groups, 'pair')} of slices"
        )
        return made

    def _warm(self) -> dict[str, list[Slice]]:
        """Call both sides in turn until each has been called for a while."""
        slices: dict[str, list[Slice]] = {"a": [], "b": []}
        began = self._clock()
        while self._clock() - began < 2 * _WARM_S or len(slices["b"]) < _FEWEST_WARM:
            for side in "ab":
                first = not slices[side]
                warmup = self._plan.options[side].warmup_calls
                if not first:
                    warmup = warm_up_calls(slices[side][-1].mean_s)
                slices[side].append(self._slice(side, _WARM_SLICE_S, warmup))
        return slices

    def _timing(self, warm: Mapping[str, Sequence[Slice]], start_s: float) -> Timing:
        """How the time is spent, by what starting takes, a call, and the machine's pace.

        Planned anew until there are pairs enough for a first look: the first one to start may have
        had to compile what later ones find.
        """
        found = self.found
        if self._fixed is not None:
            return self._fixed
        if found.timing is not None and len(found.pairs) >= FEWEST_PROCESS_PAIRS:
            return found.timing
        self._start_s = min(self._start_s, start_s)
        known = Known(
            start_s=self._start_s + self._close_s,
            call_s=max(own[-1].mean_s for own in warm.values()),
            state_s=state_s(warm),
            made=len(found.pairs),
            spent_s=sum(one.took_s for one in found.pairs),
        )
        return timed(self._plan, known)

    def _slices(
        self, timing: Timing, rng: np.random.Generator, warm: Mapping[str, Sequence[Slice]]
    ) -> tuple[str, dict[str, list[Slice]]]:
        slices: dict[str, list[Slice]] = {"a": [], "b": []}
        warmup = min(warm_up_calls(own[-1].mean_s) for own in warm.values())
        order = "".join(rng.choice(["a", "b"], timing.slices))
        for first in order:
            for side in (first, "b" if first == "a" else "a"):
                slices[side].append(self._slice(side, timing.slice_s, warmup))
        return order, slices

    def _slice(self, side: str, seconds: float, warmup_calls: int) -> Slice:
        with said_of(side, self._names[side]):
            return self._benches[side].slice(seconds, warmup_calls, self._observer)

    def _left_text(self) -> str:
        timing, pairs = self.found.timing, self.found.pairs
        if timing is None or not pairs:
            return ""
        each_s = sum(one.took_s for one in pairs) / len(pairs)
        return f", {duration_text(each_s * (timing.pairs - len(pairs)))} left"


def _change_text(log_ratio: float) -> str:
    """A ratio as a change, or as a factor where it is large.

    >>> _change_text(0.01), _change_text(3.0), _change_text(-3.0)
    ('+1.0%', 'x20.1', 'x0.0498')
    """
    if abs(log_ratio) > math.log(_LARGE):
        return f"x{math.exp(log_ratio):.3g}"
    return f"{math.expm1(log_ratio):+.1%}"
