"""What is forecast: rates, replicas, who gets a request, and what is promised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inferload.errors import PlanError
from inferload.plan.numbers import check_count, check_positive
from inferload.records.stages import MOST_PER_S
from inferload.stats.limits.limit import check_together
from inferload.studies.forecast.simulation import BALANCING

if TYPE_CHECKING:
    from inferload.plan.arrivals.loads import OpenLoop
    from inferload.plan.batching import Batching
    from inferload.stats.limits.limit import Limit

MOST_REPLICAS = 10_000
MOST_REQUESTS = 1_000_000_000
#: Rates that are told where none is asked for: of the most that replicas can make.
SHARES = (0.3, 0.5, 0.7, 0.85, 0.95)
#: As ``ForecastPoint`` has them.
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastPlan:
    """What a forecast is of.

    ``load``: how requests come, at rates that are set for each point, or as in a replay.
    ``callers``: calls that a replica has at once; ``None``: with which it makes most. ``replicas``:
    numbers of them; ``None`` with ``rates_per_s`` and ``limits``: as many as are needed.
    ``rates_per_s``: of all replicas together. ``lost``: so many of them do not serve.

    Raises:
        PlanError: naming the parameter, and its value.
    """

    asked: dict[str, Any]
    load: OpenLoop
    rates_per_s: tuple[float, ...] = ()
    replicas: tuple[int, ...] | None = None
    callers: int | None = None
    balancing: str = "random"
    batching: Batching | None = None
    limits: tuple[Limit, ...] = ()
    lost: int = 0
    requests: int | None = None

    def __post_init__(self) -> None:
        if self.balancing not in BALANCING:
            raise PlanError(
                f"balancing {self.balancing!r} is unknown: choose {', '.join(BALANCING)}"
            )
        if self.load.stages:
            raise PlanError("a rate that changes is not forecast: give --rates, and no stages")
        if self.load.ends and (self.rates_per_s or self.requests):
            raise PlanError("a replay has its own rate and requests: leave --rates and --requests")
        for rate in self.rates_per_s:
            check_positive("a rate", rate, at_most=MOST_PER_S)
        for count in self.replicas or ():
            check_count("replicas", count, at_least=1, at_most=MOST_REPLICAS)
        if self.callers is not None:
            check_count("callers", self.callers, at_least=1, at_most=10_000)
        check_count("lost", self.lost, at_least=0, at_most=MOST_REPLICAS)
        if self.requests is not None:
            check_count("requests", self.requests, at_least=1000, at_most=MOST_REQUESTS)
        self._check_limits()
        if self.replicas is not None and (least := min(self.replicas)) <= self.lost:
            raise PlanError(
                f"{self.lost} of {least} replicas are lost, and none is left: ask for more replicas"
            )

    def _check_limits(self) -> None:
        check_together(self.limits)
        for one in self.limits:
            if one.of != "response" or one.figure not in QUANTILES:
                raise PlanError(
                    f"limit {one} cannot be forecast: a response time is, by its p50, p90, p99 or "
                    "p99.9, as p99<=50ms"
                )

    @property
    def finds_replicas(self) -> bool:
        """Whether it is asked how many replicas are needed."""
        return self.replicas is None and bool(self.own_rates_per_s) and bool(self.limits)

    @property
    def max_batch(self) -> int:
        """How many requests a batch has at most."""
        return 1 if self.batching is None else self.batching.max_batch

    @property
    def max_delay_s(self) -> float:
        """How long a batch is held back."""
        return 0.0 if self.batching is None else float(self.batching.max_delay_s)

    @property
    def own_rates_per_s(self) -> tuple[float, ...]:
        """The rates that it says, or those of its replay; none where it says none."""
        if self.load.ends and self.load.rate_per_s is not None:
            return (self.load.rate_per_s,)
        return self.rates_per_s
