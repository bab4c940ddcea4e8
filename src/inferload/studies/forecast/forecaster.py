"""A forecast: point after point, and how many replicas are enough."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from inferload.records.distribution import Estimate
from inferload.records.figures import RunWarning
from inferload.studies.forecast.compiled import IS_COMPILED
from inferload.studies.forecast.plan import MOST_REPLICAS, QUANTILES, SHARES
from inferload.studies.forecast.simulation import Work, simulated
from inferload.studies.records.forecast import Forecast, ForecastPoint, Needed, ServiceLevel
from inferload.units import count_text, rate_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferload.studies.bench import StudyObserver
    from inferload.studies.forecast.measured import Measured
    from inferload.studies.forecast.plan import ForecastPlan
    from inferload.studies.forecast.simulation import Simulated
    from inferload.studies.forecast.sources import Source

#: Requests at a point, if nobody says, up to a load of 70 %: what lies near each other is alike for
#: longer the less room there is, by the square.
_REQUESTS = 200_000 if IS_COMPILED else 10_000
_ROOM = 0.3
_MOST_TIMES = 50 if IS_COMPILED else 5
# Each call that a replica has at once is to be made so often at least, compiled.
_OF_EACH = 200
_MOST = 20_000_000
# Above it queues are so long that a simulation does not see them through.
_OVERLOADED = 0.995
_SLOW = RunWarning(
    code="no-numba",
    message="numba is not installed, so few requests are simulated",
    hint="pip install 'inferload[forecast]'",
)


class Forecaster:
    """Makes points of what was measured."""

    def __init__(self, plan: ForecastPlan, source: Source) -> None:
        self.plan, self.source = plan, source
        self.measured: Measured = source.measured
        self.callers = plan.callers or self.measured.best_slots
        self.notes = self.measured.check(self.callers, plan.max_batch)
        self.capacity_per_s = self._capacity(self.measured)

    def _capacity(self, measured: Measured) -> float:
        """What one replica makes at most; beyond what was measured, no more than that."""
        slots = min(self.callers, measured.levels[-1])
        return measured.capacity_per_s(slots, self.plan.max_batch)

    def requests(self, replicas: int, load: float) -> int:
        """How many are simulated at a point, with so much of what can be made due."""
        if self.plan.requests is not None:
            return self.plan.requests
        if self.plan.load.times_s is not None:
            return len(self.plan.load.times_s)
        each = _OF_EACH * replicas * self.callers if IS_COMPILED else 0
        times = min(max((_ROOM / (1 - load)) ** 2, 1.0), _MOST_TIMES)
        return max(min(round(_REQUESTS * times), _MOST), each)

    def point(self, rate_per_s: float, replicas: int) -> ForecastPoint:
        """What so many replicas do at a rate, those that are lost left out."""
        serving = replicas - self.plan.lost
        load = rate_per_s / (serving * self.capacity_per_s)
        if load >= _OVERLOADED:
            return ForecastPoint(
                rate_per_s=rate_per_s,
                replicas=replicas,
                load_fraction=load,
                overloaded=True,
                limits=(False,) * len(self.plan.limits),
            )
        requests = self.requests(serving, load)
        middle = self._simulated(rate_per_s, serving, requests, self.measured)
        ends = [
            self._simulated(
                rate_per_s, serving, requests, self.measured.at(end), flat=end == "high"
            )
            for end in ("low", "high")
            if rate_per_s < _OVERLOADED * serving * self._capacity(self.measured.at(end))
        ]
        found = {name: self._estimate(name, middle, ends) for name in QUANTILES}
        p50, p90, p99, p999 = found.values()
        return ForecastPoint(
            rate_per_s=rate_per_s,
            replicas=replicas,
            load_fraction=load,
            overloaded=False,
            simulated=requests,
            p50_ms=p50,
            p90_ms=p90,
            p99_ms=p99,
            p999_ms=p999,
            queue_ms=middle.queue_ms,
            mean_batch=middle.mean_batch if self.plan.batching is not None else None,
            limits=tuple(_kept(one.bound, found[one.figure]) for one in self.plan.limits),
        )

    def _simulated(
        self,
        rate_per_s: float,
        serving: int,
        requests: int,
        measured: Measured,
        *,
        flat: bool = True,
    ) -> Simulated:
        plan = self.plan
        return simulated(
            plan.schedule(rate_per_s, requests),
            serving,
            measured.replica(self.callers, plan.max_batch, plan.max_delay_s, flat=flat),
            Work(factors=measured.factors(self.callers)),
            plan.balancing,
            plan.load.seed,
        )

    def _estimate(self, name: str, middle: Simulated, ends: list[Simulated]) -> Estimate | None:
        """A quantile with what it may be; ``None`` where what was measured does not tell it."""
        found: Estimate | None = getattr(middle.response_ms, name)
        slots = min(self.callers, self.measured.levels[-1])
        if found is None or not self.measured.may_say(QUANTILES[name], slots, self.plan.max_batch):
            return None
        bounds = [found.low, found.high]
        for one in ends:
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
        least = max(math.ceil(rate_per_s / (_OVERLOADED * self.capacity_per_s)), 1) + lost
        made: dict[int, ForecastPoint] = {}

        def keeps(count: int) -> bool:
            if count not in made:
                made[count] = self.point(rate_per_s, count)
            return made[count].keeps_all

        few, many = least - 1, least
        while not keeps(many):
            if many - lost > 8 * max(least - lost, 8) or many >= MOST_REPLICAS:
                reason = "however many there are, calls alone take longer"
                return [made[many]], Needed(
                    rate_per_s=rate_per_s, lost=lost, replicas=None, reason=reason
                )
            few, many = many, many + max((many - lost) // 4, 1)
        while many - few > 1:
            half = (few + many) // 2
            few, many = (few, half) if keeps(half) else (half, many)
        shown = [made[one] for one in (few, many) if one in made]
        return shown, Needed(rate_per_s=rate_per_s, lost=lost, replicas=many)


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
    """
    began = clock()
    maker = Forecaster(plan, source)
    points: list[ForecastPoint] = []
    needed = []
    if plan.finds_replicas:
        for rate in plan.own_rates_per_s:
            observer.begins(f"replicas for {rate_text(rate)}/s")
            shown, answer = maker.needed(rate)
            points += shown
            needed.append(answer)
    else:
        for replicas in plan.replicas or (1 + plan.lost,):
            most = (replicas - plan.lost) * maker.capacity_per_s
            for rate in plan.own_rates_per_s or [share * most for share in SHARES]:
                named = count_text(replicas, "replica")
                observer.begins(f"{rate_text(rate)}/s through {named}")
                points.append(maker.point(rate, replicas))
    return Forecast(
        target=source.target,
        asked=plan.asked,
        status="complete",
        sources=source.names,
        callers=maker.callers,
        balancing=plan.balancing,
        arrivals=plan.load.arrivals,
        burstiness=plan.load.burstiness,
        max_batch=None if plan.batching is None else plan.max_batch,
        max_delay_s=plan.max_delay_s,
        capacity_per_s=maker.capacity_per_s,
        service=_levels(maker.measured),
        limits=plan.limits,
        points=tuple(points),
        needed=tuple(needed),
        notes=(*source.notes, *maker.notes),
        took_s=clock() - began,
        warnings=_warnings(points),
        environment=source.environment,
    )


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


def _warnings(points: list[ForecastPoint]) -> tuple[RunWarning, ...]:
    found: list[RunWarning] = []
    if not IS_COMPILED:
        found.append(_SLOW)
    rates = [one.rate_per_s for one in points]
    if rates and all(one.overloaded for one in points):
        found.append(
            RunWarning(
                code="overloaded",
                message="more comes at every rate than replicas can make: queues grow without end",
                hint="ask for more --replicas, or for a lower rate",
            )
        )
    return tuple(found)
