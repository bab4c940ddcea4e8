"""Two sides compared by slices: pairs of processes until they are precise enough, or time is up."""

from __future__ import annotations

import math
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from inferload.stats.slices.judging import ERROR, FEWEST_PROCESS_PAIRS, judged_together
from inferload.stats.slices.looks import OF_STUDENT, levels_of_looks
from inferload.studies.compare import Failed, told_outputs, unlike_models, unlike_specs
from inferload.studies.differences import detectable
from inferload.studies.records.comparison import CANNOT_TELL, Comparison, Difference
from inferload.studies.records.endings import StudyInterrupted
from inferload.studies.records.settings import Settings, StudyRun
from inferload.studies.slices.engine import SliceEngine
from inferload.studies.slices.gates import judged_gates, pairs_needed
from inferload.studies.spoiled import spoiled
from inferload.units import count_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from inferload.callers.crew import Preparation
    from inferload.stats.slices.judging import SlicedRatio
    from inferload.studies.bench import StudyObserver
    from inferload.studies.records.comparison import Gate
    from inferload.studies.records.slices import SlicedPair
    from inferload.studies.slices.engine import SliceBench
    from inferload.studies.slices.plan import SlicePlan

# So many times the limit is said to be longer.
_LONGER = 1.1
# Of so few calls beyond them, these would make all other claims stricter, and say next to nothing.
RARE = {"p9999"}
# Time may run out this much before a pair of processes that is still begun.
_OVER = 0.5


def run_slices(
    plan: SlicePlan,
    benches: Mapping[str, SliceBench],
    observer: StudyObserver,
    *,
    outputs: Callable[[], tuple[bool, str]],
    done: Comparison | None = None,
    keep: Callable[[Comparison], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> Comparison:
    """Make pairs of processes beside those that are ``done``, and compare the sides.

    ``outputs`` says whether both sides compute the same, and that in words; it is asked first.

    Raises:
        InferloadError: a side failed: there is no comparison without it.
        StudyInterrupted: Ctrl-C; its ``study`` has what was done until then.
    """
    study = _Study(plan, SliceEngine(plan, benches, observer, clock), done)
    try:
        if not study.same[1]:
            study.same = told_outputs(outputs, observer)
        began = clock() - sum(one.took_s for one in study.pairs)
        while (why := study.why_enough(clock() - began)) is None:
            study.add()
            keep(study.told("interrupted"))
    except KeyboardInterrupt as interrupt:
        found = study.told("interrupted")
        keep(found)
        raise StudyInterrupted(
            f"interrupted after {count_text(len(study.pairs), 'pair')} of processes", study=found
        ) from interrupt
    found = study.told("complete", why)
    keep(found)
    return found


class _Study:
    """What there is of a comparison, and whether it is enough."""

    def __init__(self, plan: SlicePlan, engine: SliceEngine, done: Comparison | None) -> None:
        self._plan, self._engine = plan, engine
        self._runs: list[StudyRun] = []
        self._environment: dict[str, Any] = {}
        #: Whether it ends at a look before the last one.
        self._early = False
        self.same = (True, "")
        if done is not None:
            engine.found.pairs.extend(done.slices)
            engine.found.timing = done.timing
            self._runs, self._environment = list(done.runs), done.environment
            self.same = (done.outputs_alike, done.outputs)

    @property
    def pairs(self) -> Sequence[SlicedPair]:
        """Those that were made."""
        return self._engine.found.pairs

    def add(self) -> None:
        """One more pair of processes."""
        self._engine.pair()
        ready = self._engine.found.ready
        self._environment = self._environment or ready["a"].environment
        self._runs = [_run_of(self._plan.settings.get(side), ready[side]) for side in "ab"]

    def why_enough(self, took_s: float) -> str | None:
        """Why there are pairs enough; ``None``: there are not."""
        timing, count = self._engine.found.timing, len(self.pairs)
        if timing is None or count < FEWEST_PROCESS_PAIRS:
            return None
        over_s = took_s + _OVER * took_s / count
        out_of_time = over_s > self._plan.time_limit_s
        if count >= timing.pairs or out_of_time:
            if not out_of_time:
                return "all pairs were made"
            longer = count == FEWEST_PROCESS_PAIRS and took_s > _LONGER * self._plan.time_limit_s
            fewest = f"{count} pairs, the fewest that tell, took longer than the limit"
            return fewest if longer else "the time was over"
        if count not in timing.looks:
            return None
        self._early = True
        why = self._seen()
        self._early = why is not None
        return why

    def _seen(self) -> str | None:
        """Why what is seen is enough."""
        plan, ratios = self._plan, self._ratios()
        why = []
        if plan.gates:
            judged = judged_gates(
                plan.gates, ratios, more_fail=self._failed.more, level=self._level()
            )
            if CANNOT_TELL in {what for _, what in judged}:
                return None
            why.append("every gate was decided")
        if plan.precision is not None and (rate := ratios.get("throughput")) is not None:
            half = math.sqrt(rate.high / rate.low) - 1
            if half > plan.precision:
                return None
            why.append(f"throughput is known to ±{half:.1%}")
        return " and ".join(why) or None

    def _ratios(self) -> dict[str, SlicedRatio]:
        first, *others = self.pairs
        gated = {gate.figure for gate in self._plan.gates}
        names = [
            one.figure
            for one in first.figures
            if (one.figure not in RARE or one.figure in gated)
            and all(pair.figure(one.figure) is not None for pair in others)
        ]
        logs = {
            name: [one.log_ratio for pair in self.pairs if (one := pair.figure(name)) is not None]
            for name in names
        }
        return judged_together(logs, self._level())

    def _level(self) -> Callable[[float], float]:
        """At which level a test is made now, that errs so often over all looks."""
        timing, count = self._engine.found.timing, len(self.pairs)
        looks = [] if timing is None else [one for one in timing.looks if one < count]
        ends = [count]
        if self._early and timing is not None:  # there would have been more
            ends.append(timing.pairs)
        shares = tuple(one / ends[-1] for one in [*looks, *ends])
        spent = 1.0 if len(shares) == 1 else OF_STUDENT
        return lambda error: _levels(shares, spent * error)[len(looks)]

    def told(self, status: str, why: str = "") -> Comparison:
        """What it comes to."""
        plan = self._plan
        differences: tuple[Difference, ...] = ()
        gates: tuple[tuple[Any, str], ...] = tuple((gate, CANNOT_TELL) for gate in plan.gates)
        needs_s = None
        if len(self.pairs) >= FEWEST_PROCESS_PAIRS:
            ratios = self._ratios()
            differences = tuple(self._difference(name, one) for name, one in ratios.items())
            gates = judged_gates(
                plan.gates, ratios, more_fail=self._failed.more, level=self._level()
            )
            needs_s = self._needs_s(gates, ratios)
        specs = [one.spec for one in self._runs]
        unlike: tuple[str, ...] = ()
        if len(specs) == 2:
            unlike = (*unlike_models(*specs), *unlike_specs(*specs))
        return Comparison(
            a=plan.a,
            b=plan.b,
            asked=plan.asked,
            status=status,
            differences=differences,
            gates=gates,
            unlike=unlike,
            sides=("a", "b")[: len(self._runs)],
            runs=tuple(self._runs),
            outputs=self.same[1],
            outputs_alike=self.same[0],
            failed_fractions=self._failed.fractions,
            more_fail=self._failed.more,
            environment=self._environment,
            warnings=spoiled(self._runs),
            slices=tuple(self.pairs),
            ended=why,
            needs_s=needs_s,
            timing=self._engine.found.timing,
        )

    @property
    def _failed(self) -> Failed:
        """How many of the calls of A and of B failed."""
        calls, failed = (
            [sum(getattr(pair, name)[side] for pair in self.pairs) for side in (0, 1)]
            for name in ("calls", "failed")
        )
        a, b = ((bad, bad + good) for bad, good in zip(failed, calls, strict=True))
        return Failed(a, b)

    def _needs_s(
        self, gates: Sequence[tuple[Gate, str]], ratios: Mapping[str, SlicedRatio]
    ) -> float | None:
        """About how long it takes here until every gate is decided; ``None``: nobody knows."""
        pairs = [
            pairs_needed(gate, ratios.get(gate.figure), self._level()(ERROR / len(gates)))
            for gate, what in gates
            if what == CANNOT_TELL
        ]
        known = [one for one in pairs if one is not None]
        if not known or len(known) < len(pairs) or self._failed.more:
            return None
        each_s = sum(one.took_s for one in self.pairs) / len(self.pairs)
        return max(*known, len(self.pairs)) * each_s

    def _difference(self, name: str, ratio: SlicedRatio) -> Difference:
        made = [one for pair in self.pairs if (one := pair.figure(name)) is not None]
        return Difference(
            figure=name,
            a=_middle([one.a for one in made]),
            b=_middle([one.b for one in made]),
            ratio=ratio.value,
            low=ratio.low,
            high=ratio.high,
            detectable_fraction=detectable(name, ratio.detectable_log),
            pairs=ratio.pairs,
            claimed=ratio.claimed,
        )


@lru_cache(maxsize=256)
def _levels(shares: tuple[float, ...], error: float) -> list[float]:
    return levels_of_looks(shares, error)


def _middle(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def _run_of(settings: Settings | None, ready: Preparation) -> StudyRun:
    """What is known of a side's slices: of what run they would be."""
    return StudyRun(
        settings=settings or Settings(),
        status="complete",
        spec=ready.spec,
        warnings=ready.warnings,
    )
