"""Tuning: the configuration that makes the most of a model, found by successive halving.

Many short runs favour the lucky one among them. So what is left is measured anew in the end, in
turn with the default, and its margin comes from these runs alone.
"""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from inferload.errors import InferloadError, PlanError
from inferload.records.figures import RunWarning
from inferload.stats.judging import judged_limits
from inferload.stats.pairs import FEWEST_PAIRS
from inferload.studies.compare import ComparePlan, figures_text, run_pairs
from inferload.studies.records.endings import StudyInterrupted
from inferload.studies.records.settings import Settings, StudyRun
from inferload.studies.records.tuning import Confirmation, Trial, Tuning
from inferload.studies.tune.code import code_of, command_of
from inferload.studies.tune.halving import ETA, blocks_of, judged_within, rank_of, rounds_of
from inferload.units import duration_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferload.callers.crew import Observer
    from inferload.plan.options import RunOptions
    from inferload.records.result import RunResult
    from inferload.stats.judging import Judgement
    from inferload.studies.bench import Bench, StudyObserver
    from inferload.studies.records.comparison import Comparison
    from inferload.studies.tune.plan import TunePlan

MOST_CONFIRMATIONS = 3
REFUSED = "refused"
DEFAULT_IS_BEST = "it is what a run does by itself"
# Of fewer calls a run says little.
FEWEST_CALLS = 10


def run_tune(
    plan: TunePlan,
    bench: Bench,
    observer: StudyObserver,
    *,
    done: Tuning | None = None,
    keep: Callable[[Tuning], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> Tuning:
    """Tune; ``keep`` is given what there is so far, and what is ``done`` is not made again.

    A candidate that fails falls out; so do all of a form that cannot be made.

    Raises:
        InferloadError: nothing could be run; what the first failed with.
        StudyInterrupted: Ctrl-C; its ``study`` has what was done until then.
    """
    tuner = _Tuner(plan, bench, observer, done=done, keep=keep, clock=clock)
    try:
        tuner.halve()
        tuner.confirm()
    except KeyboardInterrupt as interrupt:
        study = tuner.so_far("interrupted")
        keep(study)
        raise StudyInterrupted(
            f"interrupted after {study.runs_made} runs", study=study
        ) from interrupt
    study = tuner.so_far("complete")
    keep(study)
    return study


class _Tuner:
    def __init__(
        self,
        plan: TunePlan,
        bench: Bench,
        observer: StudyObserver,
        *,
        done: Tuning | None,
        keep: Callable[[Tuning], None],
        clock: Callable[[], float],
    ) -> None:
        self._plan, self._bench, self._observer = plan, bench, observer
        self._keep, self._clock, self._began = keep, clock, clock()
        self._rounds = rounds_of(len(plan.tried), plan.full_s)
        #: What runs made now took beside their duration.
        self._extras_s: list[float] = []
        self._spent_s = 0.0 if done is None else done.took_s
        self._environment = {} if done is None else done.environment
        self._first_error: InferloadError | None = None
        self._done = [] if done is None else list(done.trials)
        self._best: Settings | None = None
        self._reason = ""
        self.trials: list[Trial] = []
        self.confirmations = [] if done is None else list(done.confirmations)

    # ---- rounds ----

    def halve(self) -> None:
        """Measure all briefly, the best of them longer, until one is left."""
        left = list(self._plan.tried)
        for place, (_, duration_s) in enumerate(self._rounds):
            blocks = blocks_of(duration_s)
            generator = np.random.default_rng([self._plan.options.seed, place])
            order = [one for _ in range(blocks) for one in generator.permutation(len(left))]
            for number, which in enumerate(order):
                self._try(place, number, len(order), left[which], duration_s / blocks)
            good = self._ranked(place)
            if not good:
                raise self._first_error or InferloadError("no configuration could be run")
            going_on = good[: -(-len(left) // ETA)]
            left = [one.run.settings for one in going_on if not self._is_default_again(one)]
        self.trials += self._done  # what failed as it was confirmed
        self._done = []

    def _try(self, place: int, number: int, count: int, settings: Settings, run_s: float) -> None:
        if self._done:  # made before an interruption, in this order
            self.trials.append(self._done.pop(0))
            return
        failed = self._unmakeable(settings)
        if failed is not None:
            run = StudyRun.of(settings, None, block=place, failure=failed)
            self.trials.append(Trial(round=place, run=replace(run, status=REFUSED)))
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
            judgements = self._judged(result)
            self._environment = self._environment or result.environment
            self._extras_s.append(max(self._clock() - began - run_s, 0.0))
            self._observer.found(f"{settings}: {figures_text(result.summary)}")
        except InferloadError as error:
            self._first_error = self._first_error or error
            partial = getattr(error, "result", None)
            run = StudyRun.of(settings, partial, block=place, failure=str(error))
            if isinstance(error, PlanError):
                run = replace(run, status=REFUSED)
            self._observer.found(f"{settings}: {error}")
        self.trials.append(Trial(round=place, run=run, judgements=judgements))
        if any(one.run.failure is None for one in self.trials):
            self._keep(self.so_far("interrupted"))

    def _unmakeable(self, settings: Settings) -> str | None:
        """Why a form cannot be had, if that is known from another candidate of it."""
        for one in self.trials:
            same = (one.run.settings.form, one.run.settings.batch_size) == (
                settings.form, settings.batch_size,
            )  # fmt: skip
            if same and one.run.status == REFUSED:
                return one.run.failure
        return None

    def _judged(self, result: RunResult) -> tuple[Judgement, ...]:
        summary = result.summary
        return judged_limits(
            result.log,
            self._plan.limits,
            summary.from_s,
            summary.unfinished_calls,
            duration_s=summary.duration_s,
        )

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

    def _is_default_again(self, trial: Trial) -> bool:
        """Whether a candidate says in words what the default does by itself."""
        mine = [one.run.spec for one in self.trials if one.run.settings == self._plan.default]
        default, own = (mine[0] if mine else None), trial.run.spec
        if default is None or own is None or trial.run.settings == self._plan.default:
            return False
        return all(
            getattr(default, name) == getattr(own, name)
            for name in ("callers", "processes", "threads_per_call", "form", "items_per_input")
        )

    def _ranked(self, place: int) -> list[Trial]:
        """The middle run of each candidate that came to the end of a round, the best first."""
        runs: dict[Settings, list[Trial]] = {}
        for one in self.trials:
            if one.round == place:
                runs.setdefault(one.run.settings, []).append(one)
        whole = [own for own in runs.values() if all(one.run.failure is None for one in own)]
        return sorted((sorted(own, key=_rank)[len(own) // 2] for own in whole), key=_rank)

    # ---- what is left ----

    def confirm(self) -> None:
        """Run what is left in turn with the default; where it breaks a limit, the next."""
        for _ in range(MOST_CONFIRMATIONS + 1):  # the last time round it is only looked at
            made = [one for one in self.confirmations if one.margin.status == "complete"]
            tried = {one.settings for one in made}
            following = [one for one in self._order() if one.run.settings not in tried]
            good = [one for one in made if _keeps(one.judgements)]
            if good:
                self._choose(good[-1])
                return
            if len(made) == MOST_CONFIRMATIONS:
                break
            if not following or not judged_within(following[0].judgements):
                break
            settings = following[0].run.settings
            if settings == self._plan.default or self._is_default_again(following[0]):
                self._best, self._reason = self._plan.default, DEFAULT_IS_BEST
                return
            try:
                self._pairs(settings)
            except InferloadError as error:
                if str(error).startswith("A, "):  # that of the default
                    self._best, self._reason = settings, f"it has no margin: {error}"
                    return
                run = StudyRun.of(settings, None, block=len(self._rounds) - 1, failure=str(error))
                self.trials.append(Trial(round=len(self._rounds) - 1, run=run))
                self._observer.found(str(error))
        self._reason = self._why_none()

    def _choose(self, made: Confirmation) -> None:
        """Take what was confirmed, unless it makes no more than a default that keeps limits too."""
        margin = made.margin.differences[0]
        self._best = made.settings
        if margin.verdict != "faster" and _keeps(made.default_judgements):
            self._best = self._plan.default
            self._reason = (
                f"nothing that was tried makes more beyond noise; {made.settings}: "
                f"{margin.ratio - 1:+.1%}"
            )
            if margin.low is not None and margin.high is not None:
                self._reason += f" ({margin.low - 1:+.1%} to {margin.high - 1:+.1%})"

    def _order(self) -> list[Trial]:
        """The latest trial of each candidate: those within the limits first, then those that came
        farther, then by rank.
        """  # noqa: D205 - the sentence is too long for a line
        latest: dict[Settings, Trial] = {}
        for place in range(len(self._rounds)):
            latest |= {one.run.settings: one for one in self._ranked(place)}
        return sorted(
            latest.values(),
            key=lambda one: (not judged_within(one.judgements), -one.round, _rank(one)),
        )

    def _pairs(self, settings: Settings) -> None:
        plan = self._plan
        half_made = [
            one
            for one in self.confirmations
            if one.settings == settings and one.margin.status != "complete"
        ]
        done = half_made[-1] if half_made else None
        self.confirmations = [one for one in self.confirmations if one is not done]
        judged = [] if done is None else list(done.judgements)
        judged_default = [] if done is None else list(done.default_judgements)
        ours = _Judging(self._bench, lambda result: judged.append(self._judged(result)))
        default = _Judging(self._bench, lambda result: judged_default.append(self._judged(result)))

        def keep(margin: Comparison) -> None:
            mine = Confirmation(
                settings=settings,
                margin=margin,
                judgements=tuple(judged),
                default_judgements=tuple(judged_default),
            )
            self.confirmations = [one for one in self.confirmations if one.settings != settings] + [
                mine
            ]
            self._keep(self.so_far("interrupted"))

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
        order = self._order()
        limits = " and ".join(map(str, self._plan.limits))
        if not order or judged_within(order[0].judgements):
            return f"what seemed to keep {limits} did not when it was run again"
        nearest = order[0]
        figures = ", ".join(
            f"{one.limit.name} {'-' if one.value is None else one.limit.text_of(one.value)}"
            for one in nearest.judgements
        )
        return f"none keeps {limits}; nearest is {nearest.run.settings}: {figures}"

    # ---- what it comes to ----

    def so_far(self, status: str) -> Tuning:
        """What is known now."""
        plan, best = self._plan, self._best
        return Tuning(
            target=plan.target,
            asked=plan.asked,
            status=status,
            limits=plan.limits,
            default=plan.default,
            candidates=plan.candidates,
            rounds=self._rounds,
            trials=tuple(self.trials),
            best=best,
            reason=self._reason,
            confirmations=tuple(self.confirmations),
            command="" if best is None or not plan.is_named else command_of(best, self._flags),
            code=""
            if best is None or not plan.words
            else code_of(
                best
                if plan.form is None or best.form is not None
                else replace(best, form=plan.form),
                plan.for_(1.0),
                plan.words,
                of_command_line=plan.is_named,
                autocast=plan.asked.get("autocast"),
                grad=plan.asked.get("grad", "inference"),
            ),
            took_s=self._spent_s + self._clock() - self._began,
            warnings=self._warnings(),
            environment=self._environment,
        )

    @property
    def _flags(self) -> dict[str, Any]:
        on_error = self._plan.for_(1.0).on_error
        return self._plan.asked | ({} if on_error == "stop" else {"on_error": on_error})

    def _warnings(self) -> tuple[RunWarning, ...]:
        found = [] if not self.confirmations else list(self.confirmations[-1].margin.warnings)
        runs = [one.run for one in self.trials]
        runs += [run for one in self.confirmations for run in one.margin.runs]
        counts = [
            one.summary.completed_calls
            for one in runs
            if one.summary is not None and one.failure is None
        ]
        few = [count for count in counts if count < FEWEST_CALLS]
        if few:
            found.append(
                RunWarning(
                    code="few-calls",
                    message=f"{len(few)} of {len(counts)} runs made fewer than {FEWEST_CALLS} "
                    "calls, which leaves much to chance",
                    hint=f"a longer --duration (now {duration_text(self._plan.full_s)})",
                )
            )
        return tuple(found)


class _Judging:
    """A bench that shows the results of its runs."""

    def __init__(self, bench: Bench, show: Callable[[RunResult], None]) -> None:
        self._bench, self._show = bench, show

    def run(self, settings: Settings, options: RunOptions, observer: Observer) -> RunResult:
        result = self._bench.run(settings, options, observer)
        self._show(result)
        return result


def _rank(trial: Trial) -> tuple[float, float]:
    summary = trial.run.summary
    rate = 0.0 if summary is None else summary.throughput_items_per_s.value
    return rank_of(rate, trial.judgements)


def _keeps(judgements: Sequence[tuple[Judgement, ...]]) -> bool:
    """Whether the median run is within each limit."""
    for own in zip(*judgements, strict=True):
        values = sorted(math.inf if j.value is None else j.value for j in own)
        limit = own[0].limit
        middle = values[
            (len(values) - 1) // 2 if limit.figure == "throughput" else len(values) // 2
        ]
        if (middle < limit.bound) if limit.figure == "throughput" else (middle > limit.bound):
            return False
    return True
