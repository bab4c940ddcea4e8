"""What is left of the candidates, run in turn with the default, which alone gives its margin."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from inferload.errors import InferloadError
from inferload.stats.pairs import FEWEST_PAIRS
from inferload.studies.compare import ComparePlan, run_pairs
from inferload.studies.records.endings import StudyInterrupted
from inferload.studies.records.settings import StudyRun
from inferload.studies.records.tuning import Confirmation, Trial
from inferload.studies.tune.halving import judged_within

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferload.callers.crew import Observer
    from inferload.plan.options import RunOptions
    from inferload.records.result import RunResult
    from inferload.stats.limits.judging import Judgement
    from inferload.studies.bench import Bench, StudyObserver
    from inferload.studies.records.comparison import Comparison
    from inferload.studies.records.settings import Settings
    from inferload.studies.tune.plan import TunePlan
    from inferload.studies.tune.trials import Trials

MOST_CONFIRMATIONS = 3
DEFAULT_IS_BEST = "it is what a run does by itself"


class Confirming:
    """The confirmations of one tuning, and what they come to: ``best``, and the ``reason``.

    ``keep`` is called after each run.
    """

    def __init__(
        self,
        plan: TunePlan,
        last_round: int,
        trials: Trials,
        bench: Bench,
        observer: StudyObserver,
        keep: Callable[[], None],
        clock: Callable[[], float],
        before: Sequence[Confirmation],
    ) -> None:
        self._plan, self._last_round, self._trials = plan, last_round, trials
        self._bench, self._observer = bench, observer
        self._keep, self._clock = keep, clock
        self.made = list(before)
        self.best: Settings | None = None
        self.reason = ""

    def run(self) -> None:
        """Run what is left in turn with the default; where it breaks a limit, the next."""
        for _ in range(MOST_CONFIRMATIONS + 1):  # the last time round it is only looked at
            made = [one for one in self.made if one.margin.status == "complete"]
            tried = {one.settings for one in made}
            following = [one for one in self._trials.order() if one.run.settings not in tried]
            good = [one for one in made if _keeps(one.judgements)]
            if good:
                self._choose(good[-1])
                return
            if len(made) == MOST_CONFIRMATIONS:
                break
            if not following or not judged_within(following[0].judgements):
                break
            settings = following[0].run.settings
            if settings == self._plan.default or self._trials.is_default_again(following[0]):
                self.best, self.reason = self._plan.default, DEFAULT_IS_BEST
                return
            default = _Judging(self._bench)
            try:
                self._pairs(settings, default)
            except InferloadError as error:
                if default.failed:
                    self.best, self.reason = settings, f"it has no margin: {error}"
                    return
                run = StudyRun.of(settings, None, block=self._last_round, failure=str(error))
                self._trials.made.append(Trial(round=self._last_round, run=run))
                self._observer.found(str(error))
        self.reason = self._why_none()

    def _choose(self, made: Confirmation) -> None:
        """Take what was confirmed, unless it makes no more than a default that keeps limits too."""
        margin = made.margin.differences[0]
        self.best = made.settings
        if margin.verdict != "faster" and _keeps(made.default_judgements):
            self.best = self._plan.default
            self.reason = (
                f"nothing that was tried makes more beyond noise; {made.settings}: "
                f"{margin.ratio - 1:+.1%}"
            )
            if margin.low is not None and margin.high is not None:
                self.reason += f" ({margin.low - 1:+.1%} to {margin.high - 1:+.1%})"

    def _pairs(self, settings: Settings, default: _Judging) -> None:
        plan = self._plan
        half_made = [
            one for one in self.made if one.settings == settings and one.margin.status != "complete"
        ]
        done = half_made[-1] if half_made else None
        self.made = [one for one in self.made if one is not done]
        judged = [] if done is None else list(done.judgements)
        judged_default = [] if done is None else list(done.default_judgements)
        ours = _Judging(self._bench)
        ours.show = lambda result: judged.append(plan.judged(result))
        default.show = lambda result: judged_default.append(plan.judged(result))

        def keep(margin: Comparison) -> None:
            mine = Confirmation(
                settings=settings,
                margin=margin,
                judgements=tuple(judged),
                default_judgements=tuple(judged_default),
            )
            self.made = [one for one in self.made if one.settings != settings] + [mine]
            self._keep()

        pairs = ComparePlan(
            a=f"default ({plan.default})",
            b=str(settings),
            asked={},
            options=plan.for_(max(plan.full_s / (2 * FEWEST_PAIRS), 0.1)),
            pairs=FEWEST_PAIRS,
            settings={"a": plan.default, "b": settings},
        )
        try:
            run_pairs(
                pairs,
                {"a": default, "b": ours},
                self._observer,
                outputs=lambda: (True, "compared when the form was made"),
                done=None if done is None else done.margin,
                keep=keep,
                clock=self._clock,
            )
        except StudyInterrupted as interrupt:
            raise KeyboardInterrupt from interrupt

    def _why_none(self) -> str:
        order = self._trials.order()
        limits = " and ".join(map(str, self._plan.limits))
        if not order or judged_within(order[0].judgements):
            return f"what seemed to keep {limits} did not when it was run again"
        nearest = order[0]
        figures = ", ".join(
            f"{one.limit.name} {'-' if one.value is None else one.limit.text_of(one.value)}"
            for one in nearest.judgements
        )
        return f"none keeps {limits}; nearest is {nearest.run.settings}: {figures}"


class _Judging:
    """A bench that shows the results of its runs, and knows whether one of them failed."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.show: Callable[[RunResult], None] = lambda _: None
        self.failed = False

    def run(self, settings: Settings, options: RunOptions, observer: Observer) -> RunResult:
        self.failed = True
        result = self._bench.run(settings, options, observer)
        self.failed = not result.summary.completed_calls
        self.show(result)
        return result


def _keeps(judgements: Sequence[tuple[Judgement, ...]]) -> bool:
    """Whether the median run is within each limit."""
    for own in zip(*judgements, strict=True):
        values = sorted(math.inf if j.value is None else j.value for j in own)
        limit = own[0].limit
        middle = values[(len(values) - 1) // 2 if limit.at_least else len(values) // 2]
        if (middle < limit.bound) if limit.at_least else (middle > limit.bound):
            return False
    return True
