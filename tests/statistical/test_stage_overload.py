"""In which stage of a load a queue grows, and how often chance is taken for it."""

from __future__ import annotations

import numpy as np
import pytest

import inferload as il
from inferload.stats.load_stages import load_stages
from support.queueing import simulated_queue


@pytest.mark.parametrize("arrivals", ["poisson", "constant"])
def test_a_ramp_that_is_served_is_rarely_taken_for_a_queue_that_grows(arrivals):
    # up to 90 % of what is served, and a stage at that rate after it
    stages = (
        il.Stage(rate_per_s=10, to_per_s=90, duration_s=10),
        il.Stage(rate_per_s=90, duration_s=10),
    )
    taken = 0
    for seed in range(100):
        due = il.OpenLoop.staged(stages, arrivals=arrivals, seed=seed).schedule(None, None)
        service_s = np.random.default_rng([seed, 1]).exponential(0.01, due.calls)
        log = simulated_queue(due.times_ns / 1e9, service_s, 1)
        taken += any(one.overload for one in load_stages(log, stages, due.times_ns, 20.0))
    # as queues at 90 % of one rate (test_overload): 3 of 100, and two stages each
    assert taken <= 6


def test_a_stage_at_a_quarter_too_much_is_found_and_the_ones_beside_it_are_not():
    stages = tuple(il.Stage(rate_per_s=rate, duration_s=40) for rate in (60, 125, 20))
    for seed in range(20):
        due = il.OpenLoop.staged(stages, seed=seed).schedule(None, None)
        service_s = np.random.default_rng([seed, 1]).exponential(0.01, due.calls)
        log = simulated_queue(due.times_ns / 1e9, service_s, 1)
        found = [one.overload for one in load_stages(log, stages, due.times_ns, 120.0)]
        assert [one is not None for one in found] == [False, True, False]


def test_a_ramp_up_to_what_is_served_is_rarely_taken_for_one_beyond():
    stages = (il.Stage(rate_per_s=20, to_per_s=100, duration_s=30),)
    taken = 0
    for seed in range(200):
        due = il.OpenLoop.staged(stages, seed=seed).schedule(None, None)
        service_s = np.random.default_rng([seed, 1]).exponential(0.01, due.calls)
        log = simulated_queue(due.times_ns / 1e9, service_s, 1)
        taken += load_stages(log, stages, due.times_ns, 30.0)[0].overload is not None
    # 0.2 % of those in which some call has waited for long: 0.4 in the mean, and 5 or more by a
    # chance of one in 10,000. Judged as other queues are it would be 8 of 200.
    assert taken <= 4
