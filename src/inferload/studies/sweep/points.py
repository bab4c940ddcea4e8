"""What the runs of a sweep come to: a point for each setting, and how it grows."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from inferload.records.distribution import Estimate
from inferload.records.figures import RunWarning
from inferload.studies.records.sweep import Sweep, SweepPoint
from inferload.studies.usl import fitted_usl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.studies.records.settings import Settings, StudyRun
    from inferload.studies.sweep.plan import SweepPlan

# Blocks that differ by more are told of.
DRIFT_FRACTION = 0.03


def sweep_of(
    plan: SweepPlan,
    runs: Sequence[StudyRun],
    status: str,
    environment: dict[str, Any],
    *,
    why_runs: str | None = None,
    slice_s: float | None = None,
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
        why_runs=why_runs,
        slice_s=slice_s,
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
