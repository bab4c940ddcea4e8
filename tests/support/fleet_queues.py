"""Replicas whose queues are known from theory, by the events of a forecast."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from inferload.plan.arrivals.loads import OpenLoop
from inferload.studies.forecast.simulation import Work, simulated
from inferload.studies.forecast.state import Replica, Rules

if TYPE_CHECKING:
    from inferload.log.arrays import Floats
    from inferload.studies.forecast.simulation import Simulated

MEAN_MS = 1.0
EXPONENTIAL: Floats = -np.log1p(-(np.arange(1 << 16) + 0.5) / (1 << 16))


def queue(
    load: float,
    slots: int = 1,
    *,
    replicas: int = 1,
    shapes: Floats = EXPONENTIAL,
    balancing: str = "random",
    pace: Floats | None = None,
    requests: int = 20_000_000,
) -> Simulated:
    """Replicas whose calls take 1 ms in the mean, with so much of what they can make due."""
    replica = Replica(
        rules=Rules(slots=slots, max_batch=1, delay_ns=0.0, window_ns=math.inf),
        pace=np.ones(slots + 1) if pace is None else pace,
        work_ns=np.array([0.0, MEAN_MS * 1e6]),
        table=np.zeros((slots + 1, 2), np.int64),
        shapes=np.atleast_2d(shapes / shapes.mean()),
        speed=np.ones(1),
    )
    rate = load * replicas * slots * 1e3 / MEAN_MS
    schedule = OpenLoop.poisson(rate, seed=3).schedule(requests, None)
    return simulated(schedule, replicas, replica, Work(factors=np.ones(1)), balancing, 5)


def waits_ms(slots: int, load: float) -> float:
    """The mean wait of M/M/c (Erlang C)."""
    offered = slots * load
    terms = [offered**k / math.factorial(k) for k in range(slots)]
    last = offered**slots / math.factorial(slots) / (1 - load)
    return last / (sum(terms) + last) * MEAN_MS / (slots * (1 - load))


def two_choices_ms(load: float) -> float:
    """The mean response of the less loaded of two among very many (Mitzenmacher 2001)."""
    return float(sum(load ** (2**i - 2) for i in range(1, 12))) * MEAN_MS
