"""How a fleet is simulated at a rate: all of its replicas, or one that stands for all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from inferload.studies.forecast.compiled import IS_COMPILED

if TYPE_CHECKING:
    from inferload.plan.arrivals.loads import OpenLoop
    from inferload.plan.arrivals.schedule import Schedule
    from inferload.studies.forecast.plan import ForecastPlan

#: Above this load queues are so long that a simulation does not see them through.
OVERLOADED = 0.995
#: Requests of one replica, if nobody says, up to a load of 70 %: what lies near each other is alike
#: for longer the less room there is, by the square.
_REQUESTS = 200_000 if IS_COMPILED else 10_000
_ROOM = 0.3
_MOST_TIMES = 50 if IS_COMPILED else 5
_MOST = 100_000_000 if IS_COMPILED else 200_000
# Queues of M/M/1 take 1 / (1 - sqrt(load))^2 calls to fill, about 4 / (1 - load)^2, and a fifth of
# the requests is left out for it. Balancers that look at loads have short queues, filled sooner.
_TO_FILL, _TO_FILL_SHORT = 20.0, 60.0
_LEAST_OF_EACH = 200
_MOST_BURSTINESS = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Requests of a ``load``, through ``replicas``; ``enough`` of them for their queues to fill."""

    load: OpenLoop
    replicas: int
    balancing: str
    requests: int
    enough: bool

    @classmethod
    def of(
        cls, plan: ForecastPlan, rate_per_s: float, serving: int, callers: int, load: float
    ) -> Fleet:
        """So many replicas at a rate, which is this share of what they can make.

        Where a balancer looks at no load replicas know nothing of each other, and one stands for
        all: dealt at random, independent arrivals are Poisson at each, and dealt in turn arrivals
        that are gamma come to each with as much more regularity as there are replicas.
        """
        arrivals = plan.load if plan.load.ends else replace(plan.load, rate_per_s=rate_per_s)
        balancing, replicas = plan.balancing, serving
        kind = arrivals.arrivals
        alone = kind == "poisson" if balancing == "random" else kind != "replay"
        if serving > 1 and balancing in {"random", "round-robin"} and alone:
            arrivals = replace(arrivals, rate_per_s=rate_per_s / serving)
            if balancing == "round-robin" and kind != "constant":
                own = min(arrivals.burstiness * serving, _MOST_BURSTINESS)
                arrivals = replace(arrivals, arrivals="gamma", burstiness=own)
            balancing, replicas = "random", 1
        if arrivals.times_s is not None:
            requests = len(arrivals.times_s)
            return cls(
                load=arrivals,
                replicas=replicas,
                balancing=balancing,
                requests=requests,
                enough=True,
            )
        looks = balancing in {"two-choices", "least-loaded"}
        fill = _TO_FILL_SHORT / (1 - load) if looks else _TO_FILL / (1 - load) ** 2
        least = round(max(fill, _LEAST_OF_EACH) * replicas * callers)
        times = min(max((_ROOM / (1 - load)) ** 2, 1.0), _MOST_TIMES)
        requests = plan.requests or min(max(round(_REQUESTS * times), least), _MOST)
        return cls(
            load=arrivals,
            replicas=replicas,
            balancing=balancing,
            requests=requests,
            enough=requests >= least,
        )

    def schedule(self) -> Schedule:
        """When requests are due, as a run with this seed would have it."""
        if self.load.ends:
            return self.load.schedule(None, None)
        return self.load.schedule(self.requests, None)
