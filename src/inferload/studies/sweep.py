"""A sweep: every point run once in each block, in an order drawn anew for each block.

Points in the order of their values would show whatever the machine did meanwhile as a trend over
them. Shuffled within blocks it is noise, and by how much the blocks differ is told.
"""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from inferload.errors import InferloadError, PlanError
from inferload.records.distribution import Estimate
from inferload.records.figures import RunWarning
from inferload.studies.bench import check_settings
from inferload.studies.records.endings import StudyInterrupted
from inferload.studies.records.settings import Settings, StudyRun, unit_of
from inferload.studies.records.sweep import Sweep, SweepPoint
from inferload.studies.usl import fitted_usl
from inferload.units import duration_text, milliseconds_text, rate_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferload.plan.options import RunOptions
    from inferload.studies.bench import Bench, StudyObserver

MOST_AXES, MOST_POINTS = 2, 1000
# Blocks that differ by more are told of.
DRIFT_FRACTION = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPlan:
    """What a sweep runs.

    Raises:
        PlanError: it has fewer than two points, more than two axes, or a point that cannot be run.
    """

    target: str
    asked: dict[str, Any]
    options: RunOptions
    axes: dict[str, tuple[Any, ...]]
    blocks: int = 3

    def __post_init__(self) -> None:
        varied = [name for name, values in self.axes.items() if len(values) > 1]
        if not varied:
            raise PlanError(
                "a sweep needs two points or more, and every setting has one value: give several, "
                "such as --callers 1..8"
            )
        if len(varied) > MOST_AXES:
            raise PlanError(
                f"a sweep varies one thing or two, and {', '.join(varied)} have several values: "
                "give one value to all but two"
            )
        for name, values in self.axes.items():
            if len(set(values)) < len(values):
                raise PlanError(f"{name} {', '.join(map(str, values))} name a value twice")
        if len(self.points) > MOST_POINTS:
            raise PlanError(
                f"a sweep of {len(self.points):,} points is too long: give fewer values"
            )
        for point in self.points:
            check_settings(self.options, point)

    @property
    def points(self) -> list[Settings]:
        """Every combination of the values of the axes."""
        return [
            Settings(**dict(zip(self.axes, values, strict=True)))
            for values in itertools.product(*self.axes.values())
        ]

    @property
    def order(self) -> list[tuple[int, Settings]]:
        """Block by block, which point is run when."""
        points = self.points
        return [
            (block, points[place])
            for block in range(self.blocks)
            for place in np.random.default_rng([self.options.seed, block]).permutation(len(points))
        ]


def run_sweep(
    plan: SweepPlan,
    bench: Bench,
    observer: StudyObserver,
    *,
    done: Sweep | None = None,
    keep: Callable[[Sweep], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> Sweep:
    """Make the runs of a sweep that are not ``done`` yet; ``keep`` is given what there is so far.

    A run that fails leaves its point without figures, and the sweep goes on.

    Raises:
        PlanError: no point can be run; that of the first.
        StudyInterrupted: Ctrl-C; its ``study`` has what was done until then.
    """
    runs = [] if done is None else list(done.runs)
    environment = {} if done is None else done.environment
    skipped, began = len(runs), clock()
    first_error: InferloadError | None = None
    try:
        for place, (block, settings) in enumerate(plan.order):
            if place < len(runs) and runs[place].failure is None:
                continue
            left = _left_text(clock() - began, place - skipped, len(plan.order) - place)
            observer.begins(f"run {place + 1} of {len(plan.order)}{left}: {settings}")
            try:
                result = bench.run(settings, plan.options, observer)
                run = StudyRun.of(settings, result, block=block)
                observer.found(f"{settings}: {_figures_text(run)}")
                environment = environment or result.environment
            except InferloadError as error:
                first_error = first_error or error
                partial = getattr(error, "result", None)
                run = StudyRun.of(settings, partial, block=block, failure=str(error))
                observer.found(f"{settings}: {error}")
            runs[place : place + 1] = [run]  # one that failed before an interruption is replaced
            failed = all(one.failure for one in runs)
            if place + 1 == len(plan.points) and failed:
                raise first_error or InferloadError("no point of the sweep could be run")
            if not failed:
                keep(sweep_of(plan, runs, "interrupted", environment))
    except KeyboardInterrupt as interrupt:
        study = sweep_of(plan, runs, "interrupted", environment)
        keep(study)
        raise StudyInterrupted(
            f"interrupted after {len(runs)} of {len(plan.order)} runs", study=study
        ) from interrupt
    study = sweep_of(plan, runs, "complete", environment)
    keep(study)
    return study


def _left_text(elapsed_s: float, made: int, left: int) -> str:
    return f", {duration_text(elapsed_s / made * left)} left" if made else ""


def _figures_text(run: StudyRun) -> str:
    summary = run.summary
    if summary is None:
        return ""
    text = f"{rate_text(summary.throughput_calls_per_s.value)} {unit_of([run])}/s"
    p99 = None if summary.response_ms is None else summary.response_ms.p99
    return text if p99 is None else f"{text}, p99 {milliseconds_text(p99.value)}"


def sweep_of(
    plan: SweepPlan, runs: Sequence[StudyRun], status: str, environment: dict[str, Any]
) -> Sweep:
    """What runs of a sweep come to."""
    cores = environment.get("usable_cores")
    points = [_point([one for one in runs if one.settings == p], p, cores) for p in plan.points]
    best = max((_per_core(one) or 0.0 for one in points), default=0.0)
    points = [_with_efficiency(one, best) for one in points]
    # its bootstrap takes a second, and it is asked for after every run
    usl, no_usl = _usl(plan, runs) if status == "complete" else (None, None)
    drift = _drift([one for one in runs if one.failure is None], plan.blocks)
    warnings = []
    if drift is not None and abs(drift) > DRIFT_FRACTION:
        warnings.append(
            RunWarning(
                code="drift",
                message=f"throughput moved by {drift:+.1%} from the first block to the last",
                hint="points are shuffled, so it is noise and no trend of theirs; more blocks help",
            )
        )
    failed = [one for one in runs if one.failure is not None]
    if failed:
        warnings.append(
            RunWarning(
                code="failed-runs",
                message=f"{len(failed)} of {len(runs)} runs failed; first {failed[0].settings}: "
                f"{failed[0].failure}",
                hint="inferload run with those settings shows more",
            )
        )
    return Sweep(
        target=plan.target,
        asked=plan.asked,
        status=status,
        axes=plan.axes,
        blocks=plan.blocks,
        points=tuple(points),
        runs=tuple(runs),
        usl=usl,
        no_usl=no_usl,
        drift_fraction=drift,
        warnings=tuple(warnings),
        environment=environment,
    )


def _point(runs: Sequence[StudyRun], settings: Settings, usable: float | None) -> SweepPoint:
    good = [one for one in runs if one.failure is None and one.summary is not None]
    summaries = [one.summary for one in good if one.summary is not None]
    responses = [one.response_ms for one in summaries]
    spec = good[0].spec if good else None
    cores = None
    if spec is not None and usable is not None and not spec.devices:
        cores = min(float(spec.callers * spec.threads_per_call), usable)
    failures = [one.failure for one in runs if one.failure is not None]
    return SweepPoint(
        settings=settings,
        runs=len(good),
        tried=len(runs),
        throughput_calls_per_s=middle([one.throughput_calls_per_s for one in summaries]),
        throughput_items_per_s=middle([one.throughput_items_per_s for one in summaries]),
        p50_ms=middle([None if one is None else one.p50 for one in responses]),
        p99_ms=middle([None if one is None else one.p99 for one in responses]),
        cores=cores,
        failure=failures[0] if failures else None,
    )


def middle(estimates: Sequence[Estimate | None]) -> Estimate | None:
    """The median of several estimates of one figure, with the range of their intervals.

    Of an even number it is the lower of the two in the middle, so that it is a value that was
    measured. ``None`` where one is not known.
    """
    known = [one for one in estimates if one is not None]
    if not known or len(known) < len(estimates):
        return None
    if len(known) == 1:
        return known[0]
    ordered = sorted(known, key=lambda one: one.value)
    lows = [one.value if one.low is None else one.low for one in known]
    highs = [one.value if one.high is None else one.high for one in known]
    return Estimate(
        value=ordered[(len(ordered) - 1) // 2].value,
        low=min(lows),
        high=max(highs),
        method=f"median of {len(known)} runs, range of their intervals",
    )


def _per_core(point: SweepPoint) -> float | None:
    items = point.throughput_items_per_s
    return None if items is None or not point.cores else items.value / point.cores


def _with_efficiency(point: SweepPoint, best: float) -> SweepPoint:
    mine = _per_core(point)
    values = {one.name: getattr(point, one.name) for one in fields(point)}
    values["efficiency_fraction"] = mine / best if mine is not None and best else None
    return SweepPoint(**values)


def _usl(plan: SweepPlan, runs: Sequence[StudyRun]) -> tuple[Any, str | None]:
    """The fit over callers or processes, where nothing else is varied."""
    varied = [name for name, values in plan.axes.items() if len(values) > 1]
    if varied not in (["callers"], ["processes"]):
        return None, None
    if "rate_per_s" in plan.axes or plan.options.load.open_loop:
        return None, None  # how much is made is then set by what is due
    known = [
        (one.spec.callers, one.summary.throughput_calls_per_s.value)
        for one in runs
        if one.failure is None and one.spec is not None and one.summary is not None
    ]
    found = fitted_usl([n for n, _ in known], [rate for _, rate in known], seed=plan.options.seed)
    return (None, found) if isinstance(found, str) else (found, None)


def _drift(runs: Sequence[StudyRun], blocks: int) -> float | None:
    """By how much the points' throughput moved from the first block to the last, in the mean."""
    by_block: list[dict[str, float]] = [{}, {}]
    for one in runs:
        if one.block in {0, blocks - 1} and one.summary is not None and blocks > 1:
            value = one.summary.throughput_items_per_s.value
            by_block[one.block != 0][str(one.settings)] = value
    first, last = by_block
    both = [
        math.log(last[name] / first[name]) for name in first if last.get(name, 0) > 0 < first[name]
    ]
    return math.expm1(sum(both) / len(both)) if both else None
