"""Several settings of one model held open in one process, and called by slices in turn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from inferload.errors import InferloadError, PlanError
from inferload.studies.bench import Turn, with_settings
from inferload.studies.records.settings import StudyRun
from inferload.studies.slices.plan import (
    CALLS_OF_SLICE,
    FEWEST_SLICES,
    SLICE_S,
    warm_up_calls,
    why_not,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from inferload.callers.crew import Observer, Preparation
    from inferload.plan.options import RunOptions
    from inferload.stats.slices.slice import Slice
    from inferload.stats.slices.whole import WholeOfSlices
    from inferload.studies.records.settings import Settings

T = TypeVar("T")
#: Each has a log of its own, and copies of the inputs.
MOST_OPEN = 32
# Each is called for so long, twice, before its slices count.
_WARM_SLICE_S = 0.04
#: Callers have the GIL for 5 ms each, and a slice is to see their turns at it several times: 8 of
#: them made 0.94x of what they make in a whole run in slices of 0.1 s, 1.01x in slices of 0.25 s.
ALL_HAVE_THE_GIL_S = 0.03


class TurnsBench(Protocol):
    """Holds settings of one model open, each under a name, and makes slices of each."""

    def open_turn(self, name: Hashable, turn: Turn, observer: Observer) -> Preparation:
        """Prepare calls; what run their slices would be.

        Raises:
            InferloadError: as ``il.run``.
        """

    def turn(self, name: Hashable, seconds: float, warmup_calls: int, observer: Observer) -> Slice:
        """The calls of a moment with settings that are open."""

    def warmed(self, observer: Observer) -> None:
        """Slices count from now on."""

    def close_turns(self, observer: Observer) -> Mapping[Hashable, WholeOfSlices]:
        """What the slices of each come to; none is open any more."""


def why_no_turns(options: RunOptions, points: Sequence[Settings]) -> str | None:
    """Why settings cannot be called by slices in turn, in words; ``None``: they can."""
    if options.calls is not None or options.precision is not None:
        return "runs that end by --calls or --precision were asked for"
    if len(points) > MOST_OPEN:
        return f"more than {MOST_OPEN} settings at once have no room"
    return why_not([with_settings(options, one) for one in points])


class _PointError(Exception):
    """One point failed, and took with it what was open."""

    def __init__(self, settings: Settings, error: InferloadError) -> None:
        super().__init__(str(error))
        self.settings, self.error = settings, error


class Turns:
    """Blocks in which each point is called for as long, by slices in turn; ``block`` makes one.

    ``environment``: of the machine, once a point was open. ``slice_s``: the shortest slice.
    """

    def __init__(self, options: RunOptions, bench: TurnsBench, observer: Observer) -> None:
        self._options, self._bench, self._observer = options, bench, observer
        self._for_s = float(options.duration_s or 0.0)
        self.environment: dict[str, object] = {}
        self.slice_s = math.inf
        self._failed: dict[Settings, InferloadError] = {}

    @property
    def first_error(self) -> InferloadError | None:
        """What the first point failed with."""
        return next(iter(self._failed.values()), None)

    def block(self, points: Sequence[Settings], block: int) -> list[StudyRun]:
        """A run of each point, in their order; of those that failed, why.

        A point that fails is left out, of later blocks as well, and the others begin anew: it may
        have ended the process.
        """
        failed = self._failed
        made: dict[Settings, tuple[Preparation, WholeOfSlices]] = {}
        while left := [one for one in points if one not in failed]:
            try:
                made = self._together(left, block)
                break
            except _PointError as error:
                failed[error.settings] = error.error
                self._bench.close_turns(self._observer)
            except BaseException:  # Ctrl-C: nothing is to stay open
                self._bench.close_turns(self._observer)
                raise
        return [
            StudyRun.of(one, None, block=block, failure=str(failed[one]))
            if one in failed
            else _run_of(one, block, *made[one])
            for one in points
        ]

    def _together(
        self, points: Sequence[Settings], block: int
    ) -> dict[Settings, tuple[Preparation, WholeOfSlices]]:
        opened = {one: self._opened(one) for one in points}
        ready = {one: found for one, found in opened.items() if found is not None}
        if not ready:
            return {}
        self.environment = self.environment or next(iter(ready.values())).environment
        call_s = {one: self._warm(one) for one in ready}
        self._bench.warmed(self._observer)
        rng = np.random.default_rng([self._options.seed, block])
        slice_s = {one: self._slice_s(call_s[one], ready[one].spec.callers) for one in ready}
        for one in in_turn({one: self._count(slice_s[one]) for one in ready}, rng):
            self._slice(one, slice_s[one], warm_up_calls(call_s[one]))
        self.slice_s = min(self.slice_s, *slice_s.values())
        wholes = self._bench.close_turns(self._observer)
        return {one: (ready[one], wholes[one]) for one in ready}

    def _opened(self, one: Settings) -> Preparation | None:
        try:
            return self._bench.open_turn(
                one, Turn(options=self._options, settings=one, keep=True), self._observer
            )
        except PlanError as error:  # refused: the others are open as before
            self._failed[one] = error
        except InferloadError as error:
            raise _PointError(one, error) from error
        return None

    def _warm(self, one: Settings) -> float:
        """Call it until it has learned what it will; how long a call takes."""
        call_s = self._slice(one, _WARM_SLICE_S, self._options.warmup_calls).mean_s
        if call_s < _WARM_SLICE_S:
            call_s = self._slice(one, _WARM_SLICE_S, warm_up_calls(call_s)).mean_s
        return call_s

    def _slice(self, one: Settings, seconds: float, warmup_calls: int) -> Slice:
        try:
            return self._bench.turn(one, seconds, warmup_calls, self._observer)
        except InferloadError as error:
            raise _PointError(one, error) from error

    def _slice_s(self, call_s: float, callers: int) -> float:
        longest_s = max(self._for_s / FEWEST_SLICES, call_s)
        wanted_s = max(SLICE_S, CALLS_OF_SLICE * call_s, ALL_HAVE_THE_GIL_S * callers)
        return min(wanted_s, longest_s)

    def _count(self, slice_s: float) -> int:
        return max(round(self._for_s / slice_s), FEWEST_SLICES)


def in_turn(counts: Mapping[T, int], rng: np.random.Generator) -> list[T]:
    """Whose slice comes when: so many of each, spread over all the time, at random within it."""
    whens = [
        ((number + rng.random()) / count, place)
        for place, count in enumerate(counts.values())
        for number in range(count)
    ]
    names = [*counts]
    return [names[place] for _, place in sorted(whens)]


def _run_of(settings: Settings, block: int, ready: Preparation, whole: WholeOfSlices) -> StudyRun:
    return StudyRun(
        settings=settings,
        block=block,
        status="complete",
        spec=ready.spec,
        summary=whole.summary,
        services=whole.services,
        warnings=ready.warnings,
    )
