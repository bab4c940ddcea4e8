"""Explaining a run: as it was asked for, then changed in one thing at a time, in rounds."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from inferload.errors import InferloadError
from inferload.machine.hardware import usable_cores
from inferload.studies.bench import for_seconds
from inferload.studies.explain.arms import BASE, arms_of
from inferload.studies.explain.bounds import bound_of
from inferload.studies.explain.facts import effects_of, facts_of, per_call
from inferload.studies.explain.rounds import Rounds
from inferload.studies.records.endings import StudyInterrupted
from inferload.studies.records.explanation import Explanation
from inferload.studies.records.settings import Settings, StudyRun
from inferload.studies.slices.plan import FEWEST_SLICES, LEAST_SLICE_S
from inferload.units import count_text, duration_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from inferload.callers.crew import Observer
    from inferload.plan.options import RunOptions
    from inferload.records.result import RunResult
    from inferload.studies.bench import StudyObserver
    from inferload.studies.explain.arms import Arm, NotTried
    from inferload.studies.explain.plan import ExplainPlan
    from inferload.studies.explain.rounds import ArmBench, ArmRound
    from inferload.studies.records.explanation import PerCall, Traced, Work

#: Fewer rounds say little of how rounds differ; more are made where there is time.
FEWEST_ROUNDS, MOST_ROUNDS = 6, 12
# So much of the time is for slices; the rest is for starting processes.
_IN_SLICES = 0.4
# Warnings of quantiles that are not told here.
_OF_TAILS = {"too-few-calls", "closed-loop-tail"}
_NOTES = (
    "not tried, as it changes what the model computes: lower precision (bfloat16, int8)",
    "changes are tried one at a time: two that gain may gain less together",
    "a form holds the operators that were recorded: Python that depends on no tensor is not in it",
)


class RunBench(Protocol):
    """Makes the run as it was asked for, and traces one like it."""

    def run(self, settings: Settings, options: RunOptions, observer: Observer) -> RunResult:
        """One run."""

    def traced(self, options: RunOptions, observer: Observer) -> tuple[Traced | None, Work]:
        """Where the time goes within calls, and what they compute."""

    def close(self) -> None:
        """End its process."""


def run_explain(
    plan: ExplainPlan,
    bench: RunBench,
    host: Callable[[Mapping[str, str], int], ArmBench],
    observer: StudyObserver,
    *,
    choose: Callable[[tuple[Arm, ...]], tuple[Arm, ...]] = lambda arms: arms,
    clock: Callable[[], float] = time.monotonic,
) -> Explanation:
    """Explain a run; ``host`` gives processes, and ``choose`` tells which changes are tried.

    Raises:
        InferloadError: it failed as it was asked for.
        StudyInterrupted: Ctrl-C; its ``study`` has what was done until then.
    """
    making = _Making(plan, bench, observer, clock)
    try:
        making.as_asked()
        making.in_rounds(host, choose)
    except KeyboardInterrupt as interrupt:
        if making.result is None:
            raise
        raise StudyInterrupted(
            f"interrupted after {count_text(len(making.rounds), 'round')}",
            study=making.told("interrupted"),
        ) from interrupt
    return making.told("complete")


@dataclass(slots=True)
class _Making:
    """What there is of an explanation."""

    plan: ExplainPlan
    bench: RunBench
    observer: StudyObserver
    clock: Callable[[], float]
    began: float = 0.0
    result: RunResult | None = None
    traced: Traced | None = None
    work: Work | None = None
    arms: tuple[Arm, ...] = ()
    left: tuple[NotTried, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)
    rounds: list[dict[str, ArmRound]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_asked(self) -> None:
        """The run, and where its time goes."""
        plan, observer = self.plan, self.observer
        self.began = self.clock()
        observer.begins("the run as asked")
        try:
            self.result = self.bench.run(Settings(), plan.options, observer)
            observer.begins("the same, traced")
            self.traced, self.work = self.bench.traced(plan.of_slices, observer)
        except InferloadError as error:
            if self.result is None:
                raise
            self.notes.append(f"where time goes within calls is not known: {error}")
        finally:
            self.bench.close()

    def in_rounds(
        self,
        host: Callable[[Mapping[str, str], int], ArmBench],
        choose: Callable[[tuple[Arm, ...]], tuple[Arm, ...]],
    ) -> None:
        """All changes, round after round, for as long as there is time."""
        if self.result is None:
            raise AssertionError("it has run")
        plan, options = self.plan, for_seconds(self.plan.of_slices, (), 1.0)
        faults = None if self.traced is None else self.traced.faults
        arms, self.left = arms_of(options, self.result.spec, max(int(usable_cores()), 1), faults)
        self.arms = choose(arms)
        engine = Rounds(host, self.observer, options.seed, self.clock)
        engine.refused = self.refused
        slices = FEWEST_ROUNDS * FEWEST_SLICES * (len(self.arms) + 1)
        engine.slice_s = max(_IN_SLICES * plan.time_limit_s / slices, LEAST_SLICE_S)
        arms, most = self.arms, FEWEST_ROUNDS
        while len(self.rounds) < most:
            began, number = self.clock(), len(self.rounds)
            self.observer.begins(
                f"round {number + 1} of {most}: {len(arms) - 1} changes, each in turn with the run "
                f"as asked{'' if number else self._at_least(engine.slice_s)}"
            )
            self.rounds.append(engine.round(arms, number))
            took_s = self.clock() - began
            left_s = plan.time_limit_s - (self.clock() - self.began)
            if number == 0:
                took_s = sum(engine.cost_s.values())  # without what was made anew
                arms = self._fitting(arms, engine.cost_s, took_s, left_s)
                took_s = sum(engine.cost_s.get(one.name, 0.0) for one in arms)
            fits = len(self.rounds) + int(left_s / max(took_s, 1e-3))
            most = min(max(fits, FEWEST_ROUNDS), MOST_ROUNDS)

    def _at_least(self, slice_s: float) -> str:
        """How long rounds take, where calls are longer than slices should be."""
        service = None if self.result is None else self.result.summary.service_ms
        call_s = 0.0 if service is None else service.mean / 1e3
        if call_s < slice_s:
            return ""
        each_s = FEWEST_SLICES * (len(self.arms) + 1) * call_s
        return (
            f"; a call takes {duration_text(call_s)}, so that {FEWEST_ROUNDS} rounds of "
            f"{duration_text(each_s)} or more are made"
        )

    def _fitting(
        self, arms: tuple[Arm, ...], cost_s: dict[str, float], took_s: float, left_s: float
    ) -> tuple[Arm, ...]:
        """Those that there is time for, without the dearest; what settles most stays."""
        kept = [one for one in arms if one.name not in self.refused]
        more = FEWEST_ROUNDS - 1
        others = sorted(cost_s.get(one.name, 0.0) for one in kept if not one.made_once)
        for one in kept:
            if one.made_once and others:  # it is only loaded from now on
                own_s = cost_s.get(one.name, 0.0)
                cost_s[one.name] = min(own_s, others[len(others) // 2])
                took_s -= own_s - cost_s[one.name]
        cost = took_s
        for one in sorted(kept, key=lambda arm: -cost_s.get(arm.name, 0.0)):
            if cost * more <= left_s:
                break
            own_s = cost_s.get(one.name, 0.0)
            if one.name == BASE or one.settles or own_s < took_s / (2 * len(kept)):
                continue
            cost -= own_s
            kept.remove(one)
            # what is estimated of one round, with a quarter more, in tens of seconds
            needed_s = 1.25 * (self.plan.time_limit_s - left_s + took_s * more)
            self.refused[one.name] = (
                f"there was no time for it: --time-limit {math.ceil(needed_s / 10) * 10}s has"
            )
        return tuple(kept)

    def told(self, status: str) -> Explanation:
        """What it comes to."""
        plan, result = self.plan, self.result
        if result is None:
            raise AssertionError("it has run")
        why = "it was not reached" if status == "interrupted" else "there was no time for it"
        effects = effects_of(self.arms, self.left, self.refused, self.rounds, why)
        run = StudyRun.of(Settings(), result)
        common: dict[str, Any] = {
            "target": plan.target,
            "asked": plan.asked,
            "status": status,
            "run": run,
            "effects": effects,
            "traced": self.traced,
            "work": self.work,
            "rounds": len(self.rounds),
            "notes": (*_NOTES, *self.notes),
            "took_s": self.clock() - self.began,
            "time_limit_s": plan.time_limit_s,
            "warnings": tuple(one for one in result.warnings if one.code not in _OF_TAILS),
            "environment": result.environment,
        }
        found = Explanation(
            bound="unknown",
            says="There were too few rounds to say what bounds it.",
            used=self._used(result) if len(self.rounds) > 1 else None,
            **common,
        )
        if found.used is None:
            return found
        bound = bound_of(facts_of(found))
        gaining = [
            one
            for one in found.tried
            if one.claimed
            and (one.ratio or 0.0) > 1
            and not one.too_good
            and (one.flags or one.environment)
        ]
        best = gaining[0] if gaining else None  # the largest gain comes first
        return replace(
            found,
            bound=bound.word,
            says=bound.says,
            best=None if best is None else best.name,
            command="" if best is None else plan.command(best.flags, best.environment),
        )

    def _used(self, result: RunResult) -> PerCall:
        summary = result.summary
        calls_per_s = max(summary.throughput_calls_per_s.value, 1e-9)
        busy = [one.utilization_fraction for one in result.devices]
        return per_call(
            self.rounds,
            usable_cores=usable_cores(),
            items_per_call=max(summary.throughput_items_per_s.value, 1e-9) / calls_per_s,
            busy=max((one for one in busy if one is not None), default=None),
        )
