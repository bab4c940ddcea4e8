"""Successive halving: all candidates briefly, the best of them longer, until one is left."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from inferload.errors import InferloadError, PlanError
from inferload.stats.pairs import FEWEST_PAIRS
from inferload.studies.compare import figures_text
from inferload.studies.records.settings import StudyRun
from inferload.studies.records.tuning import Trial
from inferload.studies.tune.halving import ETA, blocks_of
from inferload.studies.tune.trials import REFUSED
from inferload.units import duration_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferload.stats.limits.judging import Judgement
    from inferload.studies.bench import Bench, StudyObserver
    from inferload.studies.records.settings import Settings
    from inferload.studies.tune.plan import TunePlan
    from inferload.studies.tune.trials import Trials


class Rounds:
    """The rounds of one tuning; ``keep`` is called after each of its runs."""

    def __init__(
        self,
        plan: TunePlan,
        rounds: Sequence[tuple[int, float]],
        trials: Trials,
        bench: Bench,
        observer: StudyObserver,
        keep: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._plan, self._rounds, self._trials = plan, rounds, trials
        self._bench, self._observer = bench, observer
        self._keep, self._clock = keep, clock
        #: What runs made now took beside their duration.
        self._extras_s: list[float] = []
        self.environment: dict[str, Any] = {}
        self.first_error: InferloadError | None = None

    def run(self) -> None:
        """Measure all briefly, the best of them longer, until one is left."""
        left = list(self._plan.tried)
        for place, (_, duration_s) in enumerate(self._rounds):
            blocks = blocks_of(duration_s)
            generator = np.random.default_rng([self._plan.options.seed, place])
            order = [one for _ in range(blocks) for one in generator.permutation(len(left))]
            for number, which in enumerate(order):
                self._try(place, number, len(order), left[which], duration_s / blocks)
            good = self._trials.ranked(place)
            if not good:
                raise self.first_error or InferloadError("no configuration could be run")
            going_on = good[: -(-len(left) // ETA)]
            left = [one.run.settings for one in going_on if not self._trials.is_default_again(one)]
        self._trials.take_over_rest()

    def _try(self, place: int, number: int, count: int, settings: Settings, run_s: float) -> None:
        if self._trials.taken_over():
            return
        failed = self._trials.refusal_of(settings)
        if failed is not None:
            run = StudyRun.of(settings, None, block=place, failure=failed)
            self._trials.made.append(Trial(round=place, run=replace(run, status=REFUSED)))
            return
        self._observer.begins(
            f"round {place + 1} of {len(self._rounds)}, run {number + 1} of {count}"
            f"{self._left_text(place, number, count)}: {settings}"
        )
        began = self._clock()
        judgements: tuple[Judgement, ...] = ()
        try:
            result = self._bench.run(settings, self._plan.for_(run_s), self._observer)
            run = StudyRun.of(settings, result, block=place)
            judgements = self._plan.judged(result)
            self.environment = self.environment or result.environment
            self._extras_s.append(max(self._clock() - began - run_s, 0.0))
            self._observer.found(f"{settings}: {figures_text(run)}")
        except InferloadError as error:
            self.first_error = self.first_error or error
            partial = getattr(error, "result", None)
            run = StudyRun.of(settings, partial, block=place, failure=str(error))
            if isinstance(error, PlanError):
                run = replace(run, status=REFUSED)
            self._observer.found(f"{settings}: {error}")
        self._trials.made.append(Trial(round=place, run=run, judgements=judgements))
        if any(one.run.failure is None for one in self._trials.made):
            self._keep()

    def _left_text(self, place: int, number: int, count: int) -> str:
        """About how long it still takes: runs as they are known so far, and the pairs."""
        if not self._extras_s:
            return ""
        extra_s = statistics.median(self._extras_s)
        duration_s = self._rounds[place][1]
        left_s = (count - number) * (duration_s / blocks_of(duration_s) + extra_s)
        for n, later_s in self._rounds[place + 1 :]:
            left_s += n * (later_s + blocks_of(later_s) * extra_s)
        left_s += self._plan.full_s + 2 * FEWEST_PAIRS * extra_s
        return f", about {duration_text(left_s)} left"
