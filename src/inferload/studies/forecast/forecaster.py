"""A forecast: point after point, and how many replicas are enough."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from inferload.errors import PlanError
from inferload.records.distribution import Estimate
from inferload.records.figures import RunWarning
from inferload.stats.intervals import calls_to_quote
from inferload.studies.forecast.compiled import IS_COMPILED
from inferload.studies.forecast.fleet import OVERLOADED, Fleet
from inferload.studies.forecast.plan import MOST_REPLICAS, QUANTILES, SHARES
from inferload.studies.forecast.simulation import Work, simulated
from inferload.studies.records.endings import StudyInterrupted
from inferload.studies.records.forecast import Forecast, ForecastPoint, Needed, ServiceLevel
from inferload.units import count_text, duration_text, rate_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferload.studies.bench import StudyObserver
    from inferload.studies.forecast.measured import Measured
    from inferload.studies.forecast.plan import ForecastPlan
    from inferload.studies.forecast.simulation import Simulated
    from inferload.studies.forecast.sources import Source

_SLOW = RunWarning(
    code="no-numba",
    message="numba is not installed, so few requests are simulated",
    hint="pip install 'inferload[forecast]'",
)


class Forecaster:
    """Makes points of what was measured.

    Raises:
        PlanError: it is too far from what was measured, or a limit is of what too few calls say.
    """

    def __init__(self, plan: ForecastPlan, source: Source) -> None:
        self.plan, self.source = plan, source
        self.measured: Measured = source.measured
        self.callers = plan.callers or self.measured.best_slots
        if plan.max_batch > 1 and source.shapes > 1:
            raise PlanError(
                f"inputs have {source.shapes} shapes, which are batched apart, and a forecast has "
                "one queue: measure with --batch-pad 0 where the model is told what is padding, or "
                "with inputs of one shape"
            )
        self.notes = self.measured.check(self.callers, plan.max_batch)
        self.notes.append(_of_pauses(self.measured))
        self.in_turn = plan.max_batch == 1 and self.measured.in_turn(self.callers)
        if self.in_turn:
            self.notes.append(f"{self.callers} {_EITHER}")
        self.capacity_per_s = self._capacity(self.measured)
        self._check_limits()

    @property
    def extrapolated(self) -> bool:
        """Whether it has more calls at once than were measured."""
        return self.callers > self.measured.levels[-1]

    def _capacity(self, measured: Measured) -> float:
        return measured.capacity_per_s(self.callers, self.plan.max_batch)

    def _calls(self) -> int:
        """How many calls say what they take when a replica is full."""
        slots = min(self.callers, self.measured.levels[-1])
        return self.measured.calls(slots, self.plan.max_batch)

    def _check_limits(self) -> None:
        calls = self._calls()
        for name, q in QUANTILES.items():
            needed = calls_to_quote(q)
            if calls >= needed:
                continue
            told = name.replace("p999", "p99.9")
            of = f" of {self.plan.max_batch} requests" if self.plan.max_batch > 1 else ""
            said = f"{told} takes {needed:,} calls{of}, and {calls:,} were measured"
            if any(one.figure == name for one in self.plan.limits):
                raise PlanError(f"{said}: measure longer (--duration), or limit another quantile")
            self.notes.append(f"{said} (a longer --duration has them)")

    def point(self, rate_per_s: float, replicas: int) -> ForecastPoint:
        """What so many replicas do at a rate, those that are lost left out."""
        serving = replicas - self.plan.lost
        most = serving * self.capacity_per_s
        found = ForecastPoint(
            rate_per_s=rate_per_s,
            replicas=replicas,
            load_fraction=rate_per_s / most,
            overloaded=True,
            may_keep_up=rate_per_s < OVERLOADED * serving * self._capacity(self.measured.at("low")),
            limits=(False,) * len(self.plan.limits),
        )
        if rate_per_s >= OVERLOADED * most:
            return found
        fleet = Fleet.of(self.plan, rate_per_s, serving, self.callers, found.load_fraction)
        middle = self._simulated(fleet, self.measured)
        if middle.turned_away:
            return found
        ends = [
            self._simulated(fleet, own)
            for own in (self.measured.at("low"), self.measured.at("high"))
            if rate_per_s < OVERLOADED * serving * self._capacity(own)
        ]
        either = self._one_at_a_time(fleet, rate_per_s / serving)
        quantiles = {name: self._estimate(name, middle, ends, either) for name in QUANTILES}
        p50, p90, p99, p999 = quantiles.values()
        return replace(
            found,
            overloaded=False,
            may_keep_up=True,
            simulated=fleet.requests,
            enough=fleet.enough,
            p50_ms=p50,
            p90_ms=p90,
            p99_ms=p99,
            p999_ms=p999,
            queue_ms=middle.queue_ms,
            mean_batch=middle.mean_batch if self.plan.batching is not None else None,
            limits=tuple(_kept(one.bound, quantiles[one.figure]) for one in self.plan.limits),
        )

    def _one_at_a_time(self, fleet: Fleet, rate_per_s: float) -> list[Simulated]:
        """What calls come to that are made in turn, if that may be what they do."""
        alone = self.measured.one_at_a_time() if self.in_turn else None
        if alone is None or rate_per_s >= OVERLOADED * alone.capacity_per_s(1, 1):
            return []
        return [self._simulated(fleet, alone, slots=1)]

    def _simulated(self, fleet: Fleet, measured: Measured, slots: int | None = None) -> Simulated:
        plan, slots = self.plan, slots or self.callers
        return simulated(
            fleet.schedule(),
            fleet.replicas,
            measured.replica(slots, plan.max_batch, plan.max_delay_s),
            Work(factors=measured.factors(slots)),
            fleet.balancing,
            plan.load.seed,
        )

    def _estimate(
        self,
        name: str,
        middle: Simulated,
        ends: Sequence[Simulated],
        either: Sequence[Simulated],
    ) -> Estimate | None:
        """A quantile with what it may be; ``None`` where what was measured does not tell it."""
        found: Estimate | None = getattr(middle.response_ms, name)
        if found is None or self._calls() < calls_to_quote(QUANTILES[name]):
            return None
        bounds = [found.low, found.high]
        for one in (*ends, *either):
            end: Estimate | None = getattr(one.response_ms, name)
            bounds += [None] if end is None else [end.value]
        known = [one for one in bounds if one is not None]
        return Estimate(
            value=found.value,
            low=min([*known, found.value]),
            # where calls are slower than said the queue may grow without an end
            high=max([*known, found.value]) if len(ends) == 2 else None,
            method="simulated, with what calls may take",
        )

    def needed(self, rate_per_s: float) -> tuple[list[ForecastPoint], Needed]:
        """The fewest replicas that keep all limits, and the points that show it."""
        lost = self.plan.lost
        least = max(math.ceil(rate_per_s / (OVERLOADED * self.capacity_per_s)), 1) + lost
        made: dict[int, ForecastPoint] = {}

        def keeps(count: int) -> bool:
            if count not in made:
                made[count] = self.point(rate_per_s, count)
            return made[count].keeps_all

        def none(reason: str, shown: int) -> tuple[list[ForecastPoint], Needed]:
            keeps(shown)
            return [made[shown]], Needed(
                rate_per_s=rate_per_s, lost=lost, replicas=None, reason=reason
            )

        if least > MOST_REPLICAS:
            return none(_TOO_MANY, MOST_REPLICAS)
        few, many = least - 1, least
        while not keeps(many):
            hardly = made[many].load_fraction < _HARDLY and not made[many].overloaded
            if many == MOST_REPLICAS:
                return none(_ALONE if hardly else _TOO_MANY, many)
            more = MOST_REPLICAS if hardly else many + max((many - lost) // 4, 1)
            few, many = many, min(more, MOST_REPLICAS)
        while many - few > 1:
            half = (few + many) // 2
            few, many = (few, half) if keeps(half) else (half, many)
        if few > lost:
            keeps(few)  # what one less would do
        shown = [made[one] for one in (few, many) if one in made]
        return shown, Needed(rate_per_s=rate_per_s, lost=lost, replicas=many)


_HARDLY = 0.02  # with such a load few requests meet
_EITHER = (
    "calls at once make no more than one: whether they share what there is, or take turns as with "
    "a lock, is not known, and from and to have both"
)
_ALONE = "calls take longer by themselves, however many there are"
_TOO_MANY = f"more than {MOST_REPLICAS:,} would be needed"


def run_forecast(
    plan: ForecastPlan,
    source: Source,
    observer: StudyObserver,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Forecast:
    """Forecast what is asked for.

    Raises:
        PlanError: what was measured does not tell it.
        StudyInterrupted: Ctrl-C; its ``study`` has the points that were made.
    """
    began = clock()
    maker = Forecaster(plan, source)
    points: list[ForecastPoint] = []
    needed: list[Needed] = []
    try:
        _make(maker, plan, observer, points, needed)
    except KeyboardInterrupt as interrupt:
        if not points:
            raise
        found = _told(maker, points, needed, "interrupted", clock() - began)
        raise StudyInterrupted(
            f"interrupted after {count_text(len(points), 'point')}", study=found
        ) from interrupt
    return _told(maker, points, needed, "complete", clock() - began)


def _make(
    maker: Forecaster,
    plan: ForecastPlan,
    observer: StudyObserver,
    points: list[ForecastPoint],
    needed: list[Needed],
) -> None:
    """Add all points that are asked for, and how many replicas are needed."""
    if plan.finds_replicas:
        for rate in plan.own_rates_per_s:
            observer.begins(f"replicas for {rate_text(rate)}/s")
            shown, answer = maker.needed(rate)
            points += shown
            needed.append(answer)
        return
    for replicas in plan.replicas or (1 + plan.lost,):
        most = (replicas - plan.lost) * maker.capacity_per_s
        for rate in plan.own_rates_per_s or [share * most for share in SHARES]:
            named = count_text(replicas, "replica")
            observer.begins(f"{rate_text(rate)}/s through {named}")
            points.append(maker.point(rate, replicas))


def _told(
    maker: Forecaster,
    points: Sequence[ForecastPoint],
    needed: Sequence[Needed],
    status: str,
    took_s: float,
) -> Forecast:
    plan, source = maker.plan, maker.source
    return Forecast(
        target=source.target,
        asked=plan.asked,
        status=status,
        sources=source.names,
        callers=maker.callers,
        extrapolated=maker.extrapolated,
        balancing=plan.balancing,
        arrivals=plan.load.arrivals,
        burstiness=plan.load.burstiness,
        max_batch=None if plan.batching is None else plan.max_batch,
        max_delay_s=plan.max_delay_s,
        lost=plan.lost,
        capacity_per_s=maker.capacity_per_s,
        service=_levels(maker.measured),
        limits=plan.limits,
        points=tuple(points),
        needed=tuple(needed),
        notes=(*source.notes, *maker.notes),
        took_s=took_s,
        warnings=_warnings(points),
        environment=source.environment,
    )


def _of_pauses(measured: Measured) -> str:
    """What pauses cost, or that nobody knows."""
    pauses = measured.pauses
    if pauses is None:
        return (
            "what pauses cost was not measured: a call after one may take longer than in a closed "
            "loop. A run of one caller at half of what it makes (--callers 1 --rate R --json FILE) "
            "beside the sweep tells"
        )
    longest = f"{pauses.slower[-1] - 1:+.1%} after {duration_text(pauses.lengths_s[-1])}"
    return f"after pauses calls take longer, as {pauses.calls:,} calls of a run show: {longest}"


def _kept(bound_ms: float, found: Estimate | None) -> bool | None:
    """Whether a figure is within its bound, also where it may be worse."""
    if found is None:
        return None
    if found.value > bound_ms:
        return False
    return found.high is not None and found.high <= bound_ms


def _levels(measured: Measured) -> tuple[ServiceLevel, ...]:
    return tuple(
        ServiceLevel(
            in_flight=k,
            batch_size=size,
            calls=one.calls,
            mean_ms=one.mean_ms,
            requests_per_s=k * size / one.mean_ms.value * 1e3,
        )
        for (k, size), one in sorted(measured.by.items())
    )


def _warnings(points: Sequence[ForecastPoint]) -> tuple[RunWarning, ...]:
    found: list[RunWarning] = []
    if not IS_COMPILED:
        found.append(_SLOW)
    short = [one for one in points if not one.enough]
    if short:
        found.append(
            RunWarning(
                code="few-requests",
                message=f"{len(short)} of {count_text(len(points), 'point')} have fewer requests "
                "than their queues take to fill: what is told of them is too low",
                hint="leave --requests out, or ask for fewer replicas or a lower rate",
            )
        )
    return tuple(found)
