"""Queues whose answer is known, by the events of a forecast."""

from __future__ import annotations

import math

import numpy as np
import pytest

from support.fleet_queues import EXPONENTIAL, MEAN_MS, queue, two_choices_ms, waits_ms


@pytest.mark.parametrize(("slots", "load"), [(1, 0.5), (1, 0.8), (4, 0.8), (16, 0.9)])
def test_several_callers_and_exponential_calls(slots, load):
    found = queue(load, slots, requests=20_000_000)
    assert found.queue_ms == pytest.approx(waits_ms(slots, load), rel=0.01)
    assert found.busy_fraction == pytest.approx(load, rel=0.01)
    if slots == 1:
        p99 = -math.log(0.01) * MEAN_MS / (1 - load)
        assert found.response_ms.p99.value == pytest.approx(p99, rel=0.01)
        assert found.response_ms.p99.low < found.response_ms.p99.high


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_calls_that_all_take_as_long(load):
    found = queue(load, shapes=np.ones(1), requests=10_000_000)
    waits = load * MEAN_MS / (2 * (1 - load))  # Pollaczek and Khinchine
    assert found.queue_ms == pytest.approx(waits, rel=0.01)


def test_calls_that_share_the_machine_evenly():
    # of processor sharing the mean does not depend on what calls take (Kleinrock)
    slots = 200
    pace = np.concatenate([[1.0], 1 / np.arange(1, slots + 1)])
    for shapes in (EXPONENTIAL, np.ones(1), np.array([0.1, 0.1, 0.1, 3.7])):
        found = queue(0.7 / slots, slots, shapes=shapes, pace=pace, requests=1_000_000)
        assert found.response_ms.mean == pytest.approx(MEAN_MS / 0.3, rel=0.02)


@pytest.mark.parametrize("load", [0.7, 0.9])
def test_the_less_loaded_of_two_among_a_thousand(load):
    found = queue(load, replicas=1000, balancing="two-choices", requests=4_000_000)
    assert found.response_ms.mean == pytest.approx(two_choices_ms(load), rel=0.02)


def test_balancers_in_the_order_of_what_they_know():
    means = [
        queue(0.9, replicas=50, balancing=kind, requests=1_000_000).response_ms.mean
        for kind in ("random", "round-robin", "two-choices", "least-loaded")
    ]
    assert means == sorted(means, reverse=True)
    assert means[0] == pytest.approx(MEAN_MS / 0.1, rel=0.05)  # each an M/M/1
    assert means[-1] < 1.7 * MEAN_MS
