"""What is left of the candidates, run in turn with the default, which alone gives its margin."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from inferload.errors import InferloadError
from inferload.stats.pairs import FEWEST_PAIRS
from inferload.stats.slices.judging import FEWEST_PROCESS_PAIRS
from inferload.studies.bench import with_settings
from inferload.studies.compare import ComparePlan, run_pairs
from inferload.studies.records.endings import StudyInterrupted
from inferload.studies.records.settings import StudyRun
from inferload.studies.records.tuning import Confirmation, Trial
from inferload.studies.slices.compare import run_slices
from inferload.studies.slices.plan import SlicePlan, why_not
from inferload.studies.tune.halving import judged_within
from inferload.units import duration_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from inferload.callers.crew import Observer
    from inferload.plan.options import RunOptions
    from inferload.records.result import RunResult
    from inferload.stats.limits.judging import Judgement
    from inferload.studies.bench import Bench, StudyObserver
    from inferload.studies.records.comparison import Comparison
    from inferload.studies.records.settings import Settings
    from inferload.studies.slices.engine import SliceBench
    from inferload.studies.tune.plan import TunePlan
    from inferload.studies.tune.trials import Trials

    #: Makes slices of the default and of a candidate, each in fresh processes.
    Sliced = Callable[[], Mapping[str, SliceBench]] | None

MOST_CONFIRMATIONS = 3
DEFAULT_IS_BEST = "it is what a run does by itself"
_COMPARED = (True, "compared when the form was made")


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
        sliced: Sliced,
        observer: StudyObserver,
        keep: Callable[[], None],
        clock: Callable[[], float],
        before: Sequence[Confirmation],
    ) -> None:
        self._plan, self._last_round, self._trials = plan, last_round, trials
        self._bench, self._sliced, self._observer = bench, sliced, observer
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
                self._confirm(settings, default)
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

    def _confirm(self, settings: Settings, default: _Judging) -> None:
        """Call it by slices in turn with the default; where that cannot be, in whole runs."""
        half_made = [
            one for one in self.made if one.settings == settings and one.margin.status != "complete"
        ]
        done = half_made[-1] if half_made else None
        self.made = [one for one in self.made if one is not done]
        why_runs = self._why_runs(settings) if done is None else done.margin.why_runs or None
        try:
            if why_runs is None:
                why_runs = self._by_slices(settings, None if done is None else done.margin)
                done = None
            if why_runs is not None:
                self._pairs(settings, default, done, why_runs)
        except StudyInterrupted as interrupt:
            raise KeyboardInterrupt from interrupt

    def _why_runs(self, settings: Settings) -> str | None:
        """Why it is confirmed in whole runs, in words; ``None``: by slices."""
        plan = self._plan
        if self._sliced is None:
            return "there are no fresh processes for slices"
        if plan.limits:
            return "whether limits are kept is seen in whole runs"
        latest = self._trials.latest(settings)
        making_s = 0.0
        if latest is not None and latest.run.set_up is not None:
            made = latest.run.set_up
            making_s = made.prepare_s + (made.first_call_ms or 0.0) / 1e3
        if making_s > plan.full_s / FEWEST_PROCESS_PAIRS:
            return f"its form takes {duration_text(making_s)} to make, in each fresh process"
        return why_not([with_settings(plan.for_(1.0), one) for one in (plan.default, settings)])

    def _by_slices(self, settings: Settings, done: Comparison | None) -> str | None:
        """Confirm it by slices; why that could not be done, in words, or ``None``."""
        plan = self._plan
        sides = {"a": plan.default, "b": settings}

        def keep(margin: Comparison) -> None:
            self._note(Confirmation(settings=settings, margin=margin))

        if self._sliced is None:
            raise AssertionError("it was looked at before")
        slices = SlicePlan(
            **self._names(settings),
            options={side: with_settings(plan.for_(1.0), one) for side, one in sides.items()},
            settings=sides,
            time_limit_s=plan.full_s,
            seed=plan.options.seed,
        )
        try:
            run_slices(
                slices,
                self._sliced(),
                self._observer,
                outputs=lambda: _COMPARED,
                done=done,
                keep=keep,
                clock=self._clock,
            )
        except InferloadError as error:  # there may be no memory for both at once
            self._observer.found(f"{error}; whole runs are made instead")
            return f"slices failed: {error}"
        return None

    def _names(self, settings: Settings) -> dict[str, Any]:
        return {"a": f"default ({self._plan.default})", "b": str(settings), "asked": {}}

    def _note(self, mine: Confirmation) -> None:
        self.made = [one for one in self.made if one.settings != mine.settings] + [mine]
        self._keep()

    def _pairs(
        self, settings: Settings, default: _Judging, done: Confirmation | None, why_runs: str
    ) -> None:
        plan = self._plan
        judged = [] if done is None else list(done.judgements)
        judged_default = [] if done is None else list(done.default_judgements)
        ours = _Judging(self._bench)
        ours.show = lambda result: judged.append(plan.judged(result))
        default.show = lambda result: judged_default.append(plan.judged(result))

        def keep(margin: Comparison) -> None:
            self._note(
                Confirmation(
                    settings=settings,
                    margin=margin,
                    judgements=tuple(judged),
                    default_judgements=tuple(judged_default),
                )
            )

        pairs = ComparePlan(
            **self._names(settings),
            options=plan.for_(max(plan.full_s / (2 * FEWEST_PAIRS), 0.1)),
            pairs=FEWEST_PAIRS,
            settings={"a": plan.default, "b": settings},
            why_runs=why_runs,
        )
        run_pairs(
            pairs,
            {"a": default, "b": ours},
            self._observer,
            outputs=lambda: _COMPARED,
            done=None if done is None else done.margin,
            keep=keep,
            clock=self._clock,
        )

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
