"""What a forecast is told as."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from inferload.records.distribution import Estimate
from inferload.records.figures import RunWarning
from inferload.records.shown import Shown
from inferload.stats.limits.limit import Limit


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLevel:
    """What was measured: how long a call takes with ``in_flight`` of them under way.

    ``batch_size``: requests in each call.
    """

    in_flight: int
    batch_size: int
    calls: int
    mean_ms: Estimate
    requests_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedPoint:
    """What a run at a point measured, and what is forecast from the service beside it.

    ``p50_ms`` and ``p99_ms`` are of ``calls`` measured calls, without an interval where these are
    too few to quote them; ``again_p50_ms`` and ``again_p99_ms``
    of the same requests, simulated with what calls took in the same minutes.
    """

    calls: int
    p50_ms: Estimate
    p99_ms: Estimate
    again_p50_ms: float
    again_p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastPoint:
    """What so many replicas do at a rate.

    ``load_fraction``: of the most that they can make. Quantiles are of the response time, with what
    they are if calls take what the ends of their intervals say; all are ``None`` where it is
    ``overloaded``: more comes than can be made, though it ``may_keep_up`` if calls are as fast as
    they may be. ``simulated``: how many requests were, and whether they were ``enough`` for queues
    to fill; of replicas that know nothing of each other, those of one. ``limits``: for each limit
    whether its figure keeps it even at the far end of its interval; ``None``: it is not known.
    """

    rate_per_s: float
    replicas: int
    load_fraction: float
    overloaded: bool
    may_keep_up: bool = True
    simulated: int = 0
    enough: bool = True
    p50_ms: Estimate | None = None
    p90_ms: Estimate | None = None
    p99_ms: Estimate | None = None
    p999_ms: Estimate | None = None
    queue_ms: float | None = None
    mean_batch: float | None = None
    limits: tuple[bool | None, ...] = ()
    checked: CheckedPoint | None = None

    @property
    def keeps_all(self) -> bool:
        """Whether it keeps every limit."""
        return not self.overloaded and all(one is True for one in self.limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """How many replicas a rate needs so that limits are kept, ``lost`` of them not serving.

    ``replicas`` is ``None`` where none were enough; ``reason`` says why.
    """

    rate_per_s: float
    lost: int
    replicas: int | None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast(Shown):
    """What a fleet of replicas will do, each of them the machine that was measured.

    A replica has ``callers`` calls at once at most and makes ``capacity_per_s`` requests a second
    at most; ``extrapolated``: more calls than were measured. Of all replicas ``lost`` do not serve.
    ``notes``: what is not known of it. ``service_change``: by how much calls took longer when it
    was checked than when it was measured.
    """

    target: str
    asked: dict[str, Any]
    status: str
    sources: tuple[str, ...]
    callers: int
    extrapolated: bool = False
    balancing: str
    arrivals: str
    burstiness: float = 1.0
    max_batch: int | None = None
    max_delay_s: float = 0.0
    lost: int = 0
    capacity_per_s: float
    service: tuple[ServiceLevel, ...]
    limits: tuple[Limit, ...] = ()
    points: tuple[ForecastPoint, ...]
    needed: tuple[Needed, ...] = ()
    notes: tuple[str, ...] = ()
    took_s: float
    service_change: float | None = None
    warnings: tuple[RunWarning, ...] = ()
    environment: dict[str, Any] = field(default_factory=dict)
    made_by: str | None = None
