"""Tuning: the configuration that makes the most of a model, found by successive halving.

Many short runs favour the lucky one among them. So what is left is measured anew in the end, in
turn with the default, and its margin comes from that alone.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from inferload.records.figures import RunWarning
from inferload.studies.records.endings import StudyInterrupted
from inferload.studies.records.tuning import Tuning
from inferload.studies.tune.code import code_of, command_of
from inferload.studies.tune.confirming import Confirming
from inferload.studies.tune.halving import rounds_of
from inferload.studies.tune.rounds import Rounds
from inferload.studies.tune.trials import Trials
from inferload.units import duration_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferload.studies.bench import Bench, StudyObserver
    from inferload.studies.tune.confirming import Sliced
    from inferload.studies.tune.plan import TunePlan

# Of fewer calls a run says little.
FEWEST_CALLS = 10


def run_tune(
    plan: TunePlan,
    bench: Bench,
    observer: StudyObserver,
    *,
    sliced: Sliced = None,
    done: Tuning | None = None,
    keep: Callable[[Tuning], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> Tuning:
    """Tune; ``keep`` is given what there is so far, and what is ``done`` is not made again.

    A candidate that fails falls out; so do all of a form that cannot be made. ``sliced`` makes
    slices of the default (``"a"``) and of what is left (``"b"``); without it they are run in turn.

    Raises:
        InferloadError: nothing could be run; what the first failed with.
        StudyInterrupted: Ctrl-C; its ``study`` has what was done until then.
    """
    tuner = _Tuner(plan, bench, observer, sliced=sliced, done=done, keep=keep, clock=clock)
    try:
        tuner.run()
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
    """The rounds and confirmations of one tuning, and what is known of it at any time."""

    def __init__(
        self,
        plan: TunePlan,
        bench: Bench,
        observer: StudyObserver,
        *,
        sliced: Sliced,
        done: Tuning | None,
        keep: Callable[[Tuning], None],
        clock: Callable[[], float],
    ) -> None:
        self._plan, self._clock, self._began = plan, clock, clock()
        self._spent_s = 0.0 if done is None else done.took_s
        self._environment = {} if done is None else done.environment
        self._of_rounds = of_rounds = rounds_of(len(plan.tried), plan.full_s)
        self._trials = trials = Trials(plan.default, of_rounds, () if done is None else done.trials)

        def keep_this() -> None:
            keep(self.so_far("interrupted"))

        self._rounds = Rounds(plan, of_rounds, trials, bench, observer, keep_this, clock)
        self._confirming = Confirming(
            plan,
            len(of_rounds) - 1,
            trials,
            bench,
            sliced,
            observer,
            keep_this,
            clock,
            () if done is None else done.confirmations,
        )

    def run(self) -> None:
        """Measure all briefly and the best longer, and confirm what is left."""
        self._rounds.run()
        self._confirming.run()

    def so_far(self, status: str) -> Tuning:
        """What is known now."""
        plan, best = self._plan, self._confirming.best
        return Tuning(
            target=plan.target,
            asked=plan.asked,
            status=status,
            limits=plan.limits,
            default=plan.default,
            candidates=plan.candidates,
            rounds=self._of_rounds,
            trials=tuple(self._trials.made),
            best=best,
            reason=self._confirming.reason,
            confirmations=tuple(self._confirming.made),
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
            environment=self._environment or self._rounds.environment,
        )

    @property
    def _flags(self) -> dict[str, Any]:
        on_error = self._plan.for_(1.0).on_error
        return self._plan.asked | ({} if on_error in {None, "stop"} else {"on_error": on_error})

    def _warnings(self) -> tuple[RunWarning, ...]:
        found = [] if not self._confirming.made else list(self._confirming.made[-1].margin.warnings)
        runs = [one.run for one in self._trials.made]
        runs += [run for one in self._confirming.made for run in one.margin.runs]
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
