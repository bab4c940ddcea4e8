"""A sweep: every point run once in each block, by slices in turn or in an order drawn anew.

Points in the order of their values would show whatever the machine did meanwhile as a trend over
them. In turn all have some of it; shuffled within blocks it is noise, and by how much the blocks
differ is told.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from inferload.errors import InferloadError
from inferload.stats.service import profiles_of_run
from inferload.studies.records.endings import StudyInterrupted
from inferload.studies.records.settings import StudyRun, unit_of
from inferload.studies.slices.turns import Turns, why_no_turns
from inferload.studies.sweep.points import sweep_of
from inferload.units import duration_text, milliseconds_text, rate_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferload.studies.bench import Bench, StudyObserver
    from inferload.studies.records.sweep import Sweep
    from inferload.studies.slices.turns import TurnsBench
    from inferload.studies.sweep.plan import SweepPlan


def run_sweep(
    plan: SweepPlan,
    bench: Bench,
    observer: StudyObserver,
    *,
    turns: TurnsBench | None = None,
    done: Sweep | None = None,
    keep: Callable[[Sweep], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> Sweep:
    """Make the runs of a sweep that are not ``done`` yet; ``keep`` is given what there is so far.

    With ``turns`` all points of a block are called by slices in turn, where their calls have some,
    else each is a whole run. One that fails leaves its point without figures; the sweep goes on.

    Raises:
        PlanError: no point can be run; that of the first.
        StudyInterrupted: Ctrl-C; its ``study`` has what was done until then.
    """
    why_runs = _why_runs(plan, turns, done)
    making = _Making(plan, observer, done, keep, clock, why_runs)
    try:
        if turns is None or why_runs is not None:
            making.in_order(bench)
        else:
            making.by_turns(turns)
    except KeyboardInterrupt as interrupt:
        study = making.so_far("interrupted")
        keep(study)
        raise StudyInterrupted(
            f"interrupted after {len(making.runs)} of {len(plan.order)} runs", study=study
        ) from interrupt
    study = making.so_far("complete")
    keep(study)
    return study


class _Making:
    """The runs of a sweep, as far as they are made."""

    def __init__(
        self,
        plan: SweepPlan,
        observer: StudyObserver,
        done: Sweep | None,
        keep: Callable[[Sweep], None],
        clock: Callable[[], float],
        why_runs: str | None,
    ) -> None:
        self._plan, self._observer = plan, observer
        self._keep, self._clock = keep, clock
        self.runs = [] if done is None else list(done.runs)
        self._environment = {} if done is None else done.environment
        self._why_runs = why_runs
        self._slice_s: float | None = None if done is None else done.slice_s

    def so_far(self, status: str) -> Sweep:
        """What there is now."""
        return sweep_of(
            self._plan,
            self.runs,
            status,
            self._environment,
            why_runs=self._why_runs,
            slice_s=self._slice_s,
        )

    def in_order(self, bench: Bench) -> None:
        """Whole runs, one after another."""
        plan, runs, began = self._plan, self.runs, self._clock()
        skipped = len(runs)
        first_error: InferloadError | None = None
        for place, (block, settings) in enumerate(plan.order):
            if place < len(runs) and runs[place].failure is None:
                continue
            left = _left_text(self._clock() - began, place - skipped, len(plan.order) - place)
            self._observer.begins(f"run {place + 1} of {len(plan.order)}{left}: {settings}")
            try:
                result = bench.run(settings, plan.options, self._observer)
                services = profiles_of_run(result.log, result.spec, result.summary.from_s)
                run = replace(StudyRun.of(settings, result, block=block), services=services)
                self._environment = self._environment or result.environment
            except InferloadError as error:
                first_error = first_error or error
                partial = getattr(error, "result", None)
                run = StudyRun.of(settings, partial, block=block, failure=str(error))
            self._note(place, [run], first_error)

    def by_turns(self, bench: TurnsBench) -> None:
        """Block after block, all points of each by slices in turn."""
        plan, points, began = self._plan, len(self._plan.points), self._clock()
        turns = Turns(plan.options, bench, self._observer)
        made = 0
        for block in range(plan.blocks):
            own = slice(block * points, (block + 1) * points)
            before = self.runs[own]
            if len(before) == points and all(one.failure is None for one in before):
                continue
            left = _left_text(self._clock() - began, made, plan.blocks - block)
            self._observer.begins(
                f"block {block + 1} of {plan.blocks}{left}: {points} points in turn"
            )
            found = turns.block([settings for _, settings in plan.order[own]], block)
            self._environment = self._environment or turns.environment
            self._slice_s = turns.slice_s if math.isfinite(turns.slice_s) else self._slice_s
            self._note(own.start, found, turns.first_error)
            made += 1

    def _note(
        self, place: int, runs: Sequence[StudyRun], first_error: InferloadError | None
    ) -> None:
        """Keep runs that were made, in place of those that failed before an interruption."""
        self.runs[place : place + len(runs)] = runs
        failed = all(one.failure for one in self.runs)
        ends = place + len(runs) == len(self._plan.points) and failed
        if not ends or len({one.failure for one in runs}) > 1:  # one refusal of all is raised
            for run in runs:
                said = _figures_text(run) if run.failure is None else run.failure
                self._observer.found(f"{run.settings}: {said}")
        if ends:
            raise first_error or InferloadError("no point of the sweep could be run")
        if not failed:
            self._keep(self.so_far("interrupted"))


def _why_runs(plan: SweepPlan, turns: TurnsBench | None, done: Sweep | None) -> str | None:
    """Why each point is a whole run, in words; ``None``: they are called by slices in turn."""
    if done is not None and done.runs:  # as it was begun
        return done.why_runs
    if turns is None:
        return "what runs them makes no slices"
    return why_no_turns(plan.options, plan.points)


def _left_text(elapsed_s: float, made: int, left: int) -> str:
    return f", {duration_text(elapsed_s / made * left)} left" if made else ""


def _figures_text(run: StudyRun) -> str:
    summary = run.summary
    if summary is None:
        return ""
    text = f"{rate_text(summary.throughput_calls_per_s.value)} {unit_of([run])}/s"
    p99 = None if summary.response_ms is None else summary.response_ms.p99
    return text if p99 is None else f"{text}, p99 {milliseconds_text(p99.value)}"
