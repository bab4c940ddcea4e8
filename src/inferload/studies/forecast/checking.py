"""A forecast held to account: its points are run, and its service is measured again beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from inferload.errors import PlanError
from inferload.log.buckets import value_of_rank
from inferload.plan.arrivals.loads import ClosedLoop
from inferload.plan.arrivals.schedule import Schedule
from inferload.records.distribution import Estimate, quantile_rank
from inferload.stats.durations import RawDurations
from inferload.stats.service import profiles_of_run
from inferload.stats.summary import distribution_ms
from inferload.studies.bench import for_seconds
from inferload.studies.forecast.compiled import IS_COMPILED
from inferload.studies.forecast.measured import Measured
from inferload.studies.forecast.simulation import Work, responses
from inferload.studies.forecast.sources import model_of
from inferload.studies.records.endings import StudyInterrupted
from inferload.studies.records.forecast import CheckedPoint
from inferload.studies.records.settings import Settings
from inferload.units import NS_PER_MS, milliseconds_text, rate_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.log.arrays import Int64s
    from inferload.log.calls import CallLog
    from inferload.plan.options import RunOptions
    from inferload.records.distribution import Distribution
    from inferload.records.result import RunResult
    from inferload.records.spec import RunSpec
    from inferload.stats.service import ServiceProfile
    from inferload.studies.bench import Bench, StudyObserver
    from inferload.studies.forecast.plan import ForecastPlan
    from inferload.studies.records.forecast import Forecast, ForecastPoint

FEWEST_ROUNDS = 3
MOST_ROUNDS = 30
#: About how long a point is run in a round: a machine's speed changes within a minute.
_POINT_S = 12.0
#: Of each round: how long service is measured with each number of calls under way and each size
#: of batches, of which there are so many at most.
_SERVICE_S = 2.0
_MOST_SIZES = 4
#: The same requests are simulated so often, with other draws of what calls take.
_DRAWS = 40 if IS_COMPILED else 4


@dataclass(slots=True)
class _Round:
    """What one round measured: its service, and the logs of its points."""

    profiles: list[ServiceProfile] = field(default_factory=list)
    logs: list[CallLog] = field(default_factory=list)


def checked(
    forecast: Forecast,
    plan: ForecastPlan,
    measured: Measured,
    bench: Bench,
    options: RunOptions,
    observer: StudyObserver,
    *,
    point_s: float,
    spec: RunSpec | None = None,
) -> Forecast:
    """The forecast with what its points of one replica come to when they are run here.

    Each of three rounds or more measures the service, then runs every point for its share of
    ``point_s``; what is forecast for a point is made of the service of its round and of the
    requests that came, in their order. ``spec``: of a run that was measured before; the model must
    be that one's.

    Raises:
        PlanError: there is no point that one machine can run, or the model is another.
        StudyInterrupted: Ctrl-C; its ``study`` has what the rounds say that were whole by then.
        InferloadError: as ``il.run``.
    """
    points = [one for one in forecast.points if one.replicas == 1 and not one.overloaded]
    if not points or plan.lost:
        raise PlanError(
            "no point of this forecast can be run on one machine: give --replicas 1 (or leave it "
            "out), and rates that it can make"
        )
    kinds = _kinds(measured, forecast.callers, plan.max_batch)
    count = min(max(round(point_s / _POINT_S), FEWEST_ROUNDS), MOST_ROUNDS)
    rounds: list[_Round] = []
    interrupted = False
    try:
        for number in range(count):
            own = _Round()
            observer.begins(f"check, round {number + 1} of {count}: what calls take now")
            own.profiles = _service(kinds, bench, options, observer, spec)
            for one in points:
                due = f"{rate_text(one.rate_per_s)}/s"
                observer.begins(f"check, round {number + 1} of {count}: {due}")
                run = _point(one, plan, bench, options, observer, point_s / count, number, forecast)
                own.logs.append(run.log)
            rounds.append(own)
    except KeyboardInterrupt:
        if not rounds:
            raise
        interrupted = True
    checked_forecast = _with_rounds(forecast, plan, measured, points, rounds, observer)
    if interrupted:
        raise StudyInterrupted(
            f"interrupted: the check is of {len(rounds)} of {count} rounds",
            study=replace(checked_forecast, status="interrupted"),
        )
    return checked_forecast


def _with_rounds(
    forecast: Forecast,
    plan: ForecastPlan,
    measured: Measured,
    points: Sequence[ForecastPoint],
    rounds: Sequence[_Round],
    observer: StudyObserver,
) -> Forecast:
    """The forecast with what rounds say of its points."""
    found = {
        one: _held(
            forecast,
            plan,
            [(Measured.of(own.profiles, measured.pauses), own.logs[place]) for own in rounds],
        )
        for place, one in enumerate(points)
    }
    for one, held in found.items():
        observer.found(
            f"{rate_text(one.rate_per_s)}/s: p50 {milliseconds_text(held.again_p50_ms)} forecast, "
            f"{milliseconds_text(held.p50_ms.value)} measured"
        )
    now = Measured.of([profile for own in rounds for profile in own.profiles], measured.pauses)
    return replace(
        forecast,
        points=tuple(replace(one, checked=found.get(one)) for one in forecast.points),
        service_change=_change(measured, now),
    )


def _kinds(measured: Measured, callers: int, max_batch: int) -> list[tuple[int, int]]:
    """Which calls are measured again: so many under way, of batches of so many requests.

    Those that were measured before, and of many sizes some, the least and the largest among them.
    """
    levels = [k for k in measured.levels if k <= callers] or [measured.levels[0]]
    found = []
    for k in levels:
        known = measured.sizes_of(k)
        own = [size for size in known if size <= max_batch] or known[:1]
        some = np.linspace(0, len(own) - 1, min(len(own), _MOST_SIZES)).round().astype(int)
        found += [(k, own[place]) for place in some]
    return found


def _service(
    kinds: Sequence[tuple[int, int]],
    bench: Bench,
    options: RunOptions,
    observer: StudyObserver,
    spec: RunSpec | None,
) -> list[ServiceProfile]:
    """What calls of these kinds take now, of the model that ``spec`` is of."""
    found: list[ServiceProfile] = []
    for k, size in kinds:
        batching, clients = options.batching, None
        if batching is not None:
            # as many again wait, so that batches are full
            batching, clients = replace(batching, max_batch=size), 2 * k * size
        own = replace(
            for_seconds(options, (), _SERVICE_S),
            load=ClosedLoop(callers=k, clients=clients),
            batching=batching,
            seed=options.seed + k,
        )
        run = bench.run(Settings(), own, observer)
        if spec is not None:
            _check_same(spec, run.spec)
        found += profiles_of_run(run.log, run.spec, run.summary.from_s)
    return found


def _check_same(before: RunSpec, now: RunSpec) -> None:
    """Refuse a check of another model than was measured."""
    was, found = model_of(before), model_of(now)
    if before.batch_size != now.batch_size:  # of a sweep over sizes, whose inputs are stacked
        was = {name: was[name] for name in ("model", "form")}
    for what, own in was.items():
        if found[what] != own:
            raise PlanError(
                f"this is another model than was measured: {what} {found[what]}, and {own} there; "
                "name the one that was"
            )


def _point(
    one: ForecastPoint,
    plan: ForecastPlan,
    bench: Bench,
    options: RunOptions,
    observer: StudyObserver,
    seconds: float,
    number: int,
    forecast: Forecast,
) -> RunResult:
    load = replace(plan.load, callers=forecast.callers, seed=plan.load.seed + number)
    if not load.ends:
        load = replace(load, rate_per_s=one.rate_per_s)
    own = for_seconds(options, (), seconds)
    own = replace(own, load=load, batching=options.batching, seed=options.seed + number)
    return bench.run(Settings(), own, observer)


def _held(
    forecast: Forecast,
    plan: ForecastPlan,
    rounds: Sequence[tuple[Measured, CallLog]],
) -> CheckedPoint:
    """What was measured at a point in all rounds, and what is forecast of the same requests."""
    took = [log.rows(log.completed).response_ns for _, log in rounds]
    measured = distribution_ms(RawDurations.of(np.concatenate(took)))
    if measured is None:
        raise PlanError("no call of a point came to its end: give it longer (--check-duration)")
    counts = sum(_simulated(forecast, plan, own, log) for own, log in rounds)
    total = int(np.sum(counts))
    return CheckedPoint(
        calls=measured.count,
        p50_ms=measured.p50 or _unsure(measured, 0.5),
        p99_ms=measured.p99 or _unsure(measured, 0.99),
        again_p50_ms=value_of_rank(np.asarray(counts), quantile_rank(0.5, total)) / NS_PER_MS,
        again_p99_ms=value_of_rank(np.asarray(counts), quantile_rank(0.99, total)) / NS_PER_MS,
    )


def _unsure(measured: Distribution, q: float) -> Estimate:
    """A quantile of too few calls to quote it, without an interval."""
    return Estimate(value=measured.quantile(q), method="of too few calls to quote")


def _simulated(forecast: Forecast, plan: ForecastPlan, now: Measured, log: CallLog) -> Int64s:
    """Counts of response times of the requests of a run, simulated with several draws."""
    order = np.argsort(log.scheduled_ns, kind="stable")
    due = log.scheduled_ns[order]
    schedule = Schedule(
        times_ns=due, period_ns=max(int(due[-1]), 1), calls=len(due), span_ns=int(due[-1]) + 1
    )
    replica = now.replica(forecast.callers, plan.max_batch, plan.max_delay_s)
    factors = np.asarray(now.by[now.levels[-1], now.sizes[0]].factors)
    work = Work(factors=np.ones(1))
    if len(factors) > 1:
        work = Work(factors=factors[log.input[order]], in_order=True)
    found: Int64s = np.sum([responses(schedule, replica, work, seed) for seed in range(_DRAWS)], 0)
    return found


def _change(then: Measured, now: Measured) -> float | None:
    """By how much calls take longer now, over what was measured both times."""
    both = [kind for kind in then.by if kind in now.by]
    if not both:
        return None
    ratios = [now.by[kind].mean_ms.value / then.by[kind].mean_ms.value for kind in both]
    return math.expm1(float(np.mean(np.log(ratios))))
