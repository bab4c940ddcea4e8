"""Queues whose answer is known, by the events of a forecast."""

from __future__ import annotations

import math

import numpy as np
import pytest

from inferload.plan.arrivals.loads import OpenLoop
from inferload.studies.forecast.simulation import Work, simulated
from inferload.studies.forecast.state import Replica, Rules

MEAN_MS = 1.0
EXPONENTIAL = -np.log1p(-(np.arange(1 << 16) + 0.5) / (1 << 16))


def queue(
    load, slots=1, *, replicas=1, shapes=EXPONENTIAL, balancing="random", pace=None, n=2_000_000
):
    own = Replica(
        rules=Rules(slots=slots, max_batch=1, delay_ns=0.0, window_ns=math.inf),
        pace=np.ones(slots + 1) if pace is None else pace,
        work_ns=np.array([0.0, MEAN_MS * 1e6]),
        table=np.zeros((slots + 1, 2), np.int64),
        shapes=np.atleast_2d(shapes / shapes.mean()),
        speed=np.ones(1),
    )
    rate = load * replicas * slots * 1e3 / MEAN_MS
    schedule = OpenLoop.poisson(rate, seed=3).schedule(n, None)
    return simulated(schedule, replicas, own, Work(factors=np.ones(1)), balancing, 5)


def erlang_c(slots, load):
    """The share of requests that wait, M/M/c."""
    offered = slots * load
    terms = [offered**k / math.factorial(k) for k in range(slots)]
    last = offered**slots / math.factorial(slots) / (1 - load)
    return last / (sum(terms) + last)


@pytest.mark.parametrize(("slots", "load"), [(1, 0.5), (1, 0.8), (4, 0.8), (16, 0.9)])
def test_several_callers_and_exponential_calls(slots, load):
    found = queue(load, slots, n=20_000_000)
    waits = erlang_c(slots, load) * MEAN_MS / (slots * (1 - load))
    assert found.queue_ms == pytest.approx(waits, rel=0.01)
    assert found.busy_fraction == pytest.approx(load, rel=0.01)
    if slots == 1:
        p99 = -math.log(0.01) * MEAN_MS / (1 - load)
        assert found.response_ms.p99.value == pytest.approx(p99, rel=0.01)
        assert found.response_ms.p99.low < found.response_ms.p99.high


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_calls_that_all_take_as_long(load):
    found = queue(load, shapes=np.ones(1))
    waits = load * MEAN_MS / (2 * (1 - load))  # Pollaczek and Khinchine
    assert found.queue_ms == pytest.approx(waits, rel=0.01)


def test_calls_that_share_the_machine_evenly():
    # of processor sharing the mean does not depend on what calls take (Kleinrock)
    slots = 200
    pace = np.concatenate([[1.0], 1 / np.arange(1, slots + 1)])
    for shapes in (EXPONENTIAL, np.ones(1), np.array([0.1, 0.1, 0.1, 3.7])):
        found = queue(0.7 / slots, slots, shapes=shapes, pace=pace, n=1_000_000)
        assert found.response_ms.mean == pytest.approx(MEAN_MS / 0.3, rel=0.02)


@pytest.mark.parametrize("load", [0.7, 0.9])
def test_the_less_loaded_of_two_among_a_thousand(load):
    found = queue(load, replicas=1000, balancing="two-choices", n=4_000_000)
    # Mitzenmacher 2001: the mean time of d = 2
    wanted = sum(load ** (2**i - 2) for i in range(1, 12)) * MEAN_MS
    assert found.response_ms.mean == pytest.approx(wanted, rel=0.02)


def test_balancers_in_the_order_of_what_they_know():
    means = [
        queue(0.9, replicas=50, balancing=kind, n=1_000_000).response_ms.mean
        for kind in ("random", "round-robin", "two-choices", "least-loaded")
    ]
    assert means == sorted(means, reverse=True)
    assert means[0] == pytest.approx(MEAN_MS / 0.1, rel=0.05)  # each an M/M/1
    assert means[-1] < 1.7 * MEAN_MS
