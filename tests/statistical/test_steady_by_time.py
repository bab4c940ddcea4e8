"""Few calls that take much of the time, and runs of few calls: what medians do not see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import inferload as il
from inferload.log.merge import counted
from inferload.stats.summary import cut_of, judged, summarize
from support.queueing import log_of, simulated_queue
from support.virtual_time import simulated

MS = 1_000_000


def noisy(calls: int, *, slow: slice | None = None, seed: int = 0) -> np.ndarray:
    """Calls of about 1.1 ms, some of which take 100 ms."""
    found = np.random.default_rng(seed).normal(1.1 * MS, 0.05 * MS, calls).astype(np.int64)
    if slow is not None:
        found[slow] = 100 * MS
    return found


def closed_loop(service_ms: np.ndarray):
    finished = np.cumsum(service_ms) / 1e3
    log = log_of(finished - service_ms / 1e3, finished - service_ms / 1e3, finished)
    return replace(log, open_loop=False)


@pytest.mark.parametrize("callers", [1, 4])
def test_slow_first_calls_are_cut_however_few_they_are(callers):
    # 30 of 2,000 calls are three quarters of the time: their window's median is that of the others
    service = noisy(2100, slow=slice(30))
    load = il.ClosedLoop(callers=callers)
    result = simulated(service, load, calls=2000, warmup="auto")
    assert result.steady.steady
    assert (
        result.summary.from_s
        >= result.log.finished_ns[result.log.service_ns == 100 * MS].max() / 1e9
    )
    # the mean of the rest, 1.1 ms with a standard error of 0.1 %, and a call of each caller at the
    # edges of 1,900
    assert result.summary.throughput_calls_per_s.value == pytest.approx(callers / 1.1e-3, rel=0.01)
    assert result.summary.response_ms.max < 2
    assert simulated(service, load, calls=2000).summary.throughput_calls_per_s.value < 0.7 * (
        callers / 1.1e-3
    )


def test_slow_first_calls_of_an_open_loop_are_cut_although_none_had_to_wait():
    # 24 of the first 50 calls: in no median, and they alone are p99
    result = simulated(
        noisy(1100, slow=slice(24)), il.OpenLoop.constant(10), calls=1000, warmup="auto"
    )
    assert result.steady.steady
    assert 2.3 < result.summary.from_s < 7
    assert result.summary.response_ms.max < 2


def test_the_slow_first_call_of_one_of_four_callers_is_seen():
    def made(clock):
        calls = []

        def call(_):
            calls.append(1)
            clock.sleep(2000 * MS if len(calls) == 3 else MS)

        return call

    result = simulated(made, il.ClosedLoop(callers=4), duration_s=4.0, warmup="auto")
    assert result.summary.from_s == pytest.approx(2.0, abs=0.1)
    assert result.summary.throughput_calls_per_s.value == pytest.approx(4000, rel=0.01)


def test_slow_first_calls_of_a_counted_run_are_cut():
    # 30 of 300,000 calls are a tenth of the time, and less than one in a thousand of their window
    log = closed_loop(np.r_[np.full(30, 1000.0), noisy(270_000, seed=3) / MS])
    found = counted(log, 1)
    assert found.tally is not None
    steady = judged(found)
    assert steady.steady
    assert 29 < steady.cut_s < 40
    summary = summarize(found, (1,), from_s=cut_of(steady))
    assert summary.throughput_calls_per_s.value == pytest.approx(1 / 1.1e-3, rel=0.01)


@pytest.mark.parametrize("at", [600, 900, 1200])
@pytest.mark.parametrize("how", ["one stall", "many slow calls"])
def test_what_happens_in_the_middle_of_a_run_is_not_cut(at, how):
    service = noisy(1800)
    if how == "one stall":
        service[at] += 1000 * MS
    else:
        service[at : at + 10] = 100 * MS
    steady = judged(closed_loop(service / MS))
    assert (steady.steady, steady.cut_s) == (True, 0.0)


def test_slow_last_calls_make_a_run_unsteady_though_no_median_moves():
    result = simulated(noisy(1900, slow=slice(1770, 1800)), il.ClosedLoop(), calls=1800)
    assert (result.steady.steady, result.steady.by_time) == (False, True)
    message = next(one.message for one in result.warnings if one.code == "unsteady")
    assert "the mean time of a call moved by" in message


def test_a_start_that_fills_more_than_half_of_the_calls_is_no_warm_up():
    service = np.r_[np.full(700, 9.0), np.full(500, 3.0)] + np.arange(1200) % 7 / 100
    assert not judged(closed_loop(service)).steady


def flagged(make, runs: int = 60) -> tuple[float, float]:
    """Of closed loops with such service times: flagged as unsteady, and cut."""
    generator = np.random.default_rng(7)
    found = [judged(closed_loop(make(generator))) for _ in range(runs)]
    return (
        float(np.mean([not one.steady for one in found])),
        float(np.mean([one.cut_s > 0 for one in found])),
    )


def with_outlier(generator: np.random.Generator) -> np.ndarray:
    service = generator.normal(1, 0.05, 3000)
    service[generator.integers(3000)] *= 50
    return service


def correlated(generator: np.random.Generator) -> np.ndarray:
    """AR(1) noise of coefficient 0.5 and 1 % from one stretch of 50 calls to the next."""
    noise = np.zeros(60)
    for k in range(1, 60):
        noise[k] = 0.5 * noise[k - 1] + generator.normal(0, 0.01)
    return np.repeat(1 + noise, 50) * generator.normal(1, 0.01, 3000)


def test_windows_of_time_raise_no_more_false_alarms():
    # of 60 runs: one is 1.7 %. Medians alone flag 0, 0, 4 and 4 % of these, cut 2 to 3 % of the
    # first three and nothing of the last
    for make, most_flagged in (
        (lambda g: g.normal(1, 0.05, 3000), 0.0),
        (with_outlier, 0.04),
        (lambda g: np.exp(g.normal(0, 1.5, 3000)), 0.12),
        (correlated, 0.12),
    ):
        unsteady, cut = flagged(make)
        assert unsteady <= most_flagged
        assert cut <= 0.1


def test_drifts_and_steps_are_flagged_as_ever():
    assert flagged(lambda g: np.linspace(1, 1.05, 3000) * g.normal(1, 0.02, 3000), 20)[0] == 1
    step = np.where(np.arange(3000) < 2000, 1, 1.1)
    assert flagged(lambda g: step * g.normal(1, 0.02, 3000), 20)[0] == 1


def alike(generator: np.random.Generator, calls: int) -> np.ndarray:
    """Calls that are like those before them: AR(1) of coefficient 0.8, 10 % about the mean."""
    noise = generator.normal(0, 1, calls)
    for k in range(1, calls):
        noise[k] = 0.8 * noise[k - 1] + 0.6 * noise[k]
    return np.exp(0.1 * noise)


STATIONARY = {
    "exponential": lambda g, calls: g.exponential(5, calls),
    "bimodal": lambda g, calls: np.where(g.random(calls) < 0.5, 20.0, 2.0) + g.random(calls) / 100,
    "heavy tail": lambda g, calls: np.exp(g.normal(0, 1.5, calls)),
    "alike": alike,
}


@pytest.mark.parametrize("make", STATIONARY.values(), ids=STATIONARY)
def test_of_few_calls_fewer_than_one_run_in_a_hundred_is_flagged_by_chance(make):
    generator = np.random.default_rng(3)
    found = [
        judged(closed_loop(make(generator, int(generator.integers(100, 500))))) for _ in range(400)
    ]
    assert {one.steady for one in found} <= {False, None}
    assert np.mean([one.steady is False for one in found]) < 0.01


def test_queues_of_few_calls_that_rise_from_empty_are_not_flagged():
    # by their response times 4 % are
    generator = np.random.default_rng(4)
    flags = []
    for _ in range(200):
        due_s = np.cumsum(generator.exponential(1 / 0.9, 200))
        flags.append(judged(simulated_queue(due_s, generator.exponential(1, 200), 1)).steady)
    assert np.mean([flag is False for flag in flags]) < 0.01


@pytest.mark.parametrize("callers", [1, 2])
def test_a_drift_that_is_plain_is_told_of_few_calls_too(callers):
    noise = np.random.default_rng(5).normal(1, 0.1, 259)
    service = (np.linspace(5, 24, 259) * noise * MS).astype(np.int64)
    result = simulated(service, il.ClosedLoop(callers=callers), calls=259, warmup="auto")
    # from 5 to 24 about a middle of 14.5 ms
    assert result.steady.drift_fraction == pytest.approx(19 / 14.5, rel=0.1)
    assert (result.steady.steady, result.summary.from_s) == (False, 0.0)
    message = next(one.message for one in result.warnings if one.code == "unsteady")
    assert "its median moved by +1" in message


@pytest.mark.parametrize(
    ("service", "calls"),
    [
        (np.linspace(5, 24, 99), 99),  # too few
        (np.linspace(10, 10.1, 259), 259),  # too small
        (np.r_[np.full(20, 50.0), np.random.default_rng(6).normal(5, 0.1, 239)], 259),  # no trend
    ],
)
def test_what_is_no_plain_drift_of_few_calls_is_not_known(service, calls):
    steady = judged(closed_loop(service[:calls]))
    assert (steady.steady, steady.windows, steady.drift_p) == (None, 0, None)


def test_ten_windows_of_as_many_calls_as_can_be_judged_are_cut_as_ever():
    service = np.r_[np.full(60, 9.0), np.random.default_rng(7).normal(3, 0.05, 440)]
    assert judged(closed_loop(service)).cut_s > 0
    assert judged(closed_loop(service[:499])).cut_s == 0
