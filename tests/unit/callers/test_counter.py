"""Stamps by the processor's counter: nanoseconds of the clock, or the clock itself."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

import inferload as il
from inferload.callers.native.build import native_extension


@pytest.fixture(scope="module")
def tick_ns() -> float:
    found = native_extension().try_counter(1, 0.0)[0]
    if not found:
        pytest.skip("the kernel does not go by the processor's counter here")
    return found


def tried(wrong_by: float) -> tuple[bool, int]:
    """By the try that was disturbed least: a thread may lose its core between two readings."""
    tries = [native_extension().try_counter(30_000_000, wrong_by)[1:] for _ in range(5)]
    return min(tries, key=lambda found: found[1])


def test_the_counter_goes_as_the_clock_does(tick_ns: float):
    assert 0.05 < tick_ns < 100
    counts, off_ns = tried(0.0)
    assert counts
    assert off_ns < 1_000


@pytest.mark.parametrize("wrong_by", [0.001, -0.001])
def test_a_counter_that_goes_wrong_is_given_up(tick_ns: float, wrong_by: float):
    counts, off_ns = tried(wrong_by)
    assert not counts
    assert off_ns == pytest.approx(30_000, rel=0.5)


def scripted() -> torch.jit.ScriptModule:
    return torch.jit.script(torch.nn.Identity())


def test_stamps_of_the_counter_are_within_the_run_and_in_order(tick_ns: float):
    began = time.perf_counter()
    result = il.run(scripted(), [torch.ones(1)], load=il.ClosedLoop(callers=2), calls=200_000)
    most_ns = (time.perf_counter() - began) * 1e9
    log, set_up = result.log, result.set_up
    assert set_up.counter_off_ns is not None
    assert set_up.clock_callers is not None
    for caller in range(2):
        own = log.rows(log.caller == caller)
        assert (own.finished_ns >= own.started_ns).all()
        assert (own.started_ns[1:] >= own.finished_ns[:-1]).all()
    assert log.started_ns.min() >= -1_000
    assert log.finished_ns.max() < most_ns
    # what calls take is there as a whole too: with one caller there is little between them
    assert np.count_nonzero(log.service_ns < 0) == 0


def test_callers_that_wait_for_due_times_go_by_the_clock():
    load = il.OpenLoop.poisson(rate_per_s=1_000, callers=2)
    result = il.run(scripted(), [torch.ones(1)], load=load, calls=50)
    assert result.spec.executor == "native"
    assert result.set_up.counter_off_ns is None
    assert result.set_up.clock_callers is None


def test_python_callers_go_by_the_clock():
    result = il.run(torch.nn.Identity(), [torch.ones(1)], calls=50)
    assert result.set_up.counter_off_ns is None
