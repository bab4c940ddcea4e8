"""Limits in words, and what calls say of them."""

from __future__ import annotations

import numpy as np
import pytest

import inferload as il
from inferload.log.failures import CallFailure
from inferload.stats.limits.judging import judged_limits, says_enough, verdict_of_all
from inferload.stats.limits.limit import Limit, limits_from_texts
from inferload.stats.steadiness.overload import backlog_grows
from support.queueing import log_of, simulated_queue


@pytest.mark.parametrize(
    ("text", "figure", "bound", "shown"),
    [
        ("p99<=20ms", "p99", 20.0, "p99 <= 20.0 ms"),
        (" p99.9 < 1.5s ", "p999", 1500.0, "p99.9 <= 1.50 s"),
        ("errors<=1%", "errors", 0.01, "errors <= 1%"),
        ("errors<=0", "errors", 0.0, "errors <= 0%"),
        ("throughput>=200", "throughput", 200.0, "throughput >= 200/s"),
        ("throughput>=12.5/s", "throughput", 12.5, "throughput >= 12.5/s"),
    ],
)
def test_limits_are_read_and_written(text, figure, bound, shown):
    limit = Limit.from_text(text)
    assert (limit.figure, limit.bound, str(limit)) == (figure, bound, shown)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("p98<=20ms", "write for example p99<=20ms"),
        ("p99", "write for example p99<=20ms"),
        ("", "write for example p99<=20ms"),
        ("p99<=20", "has no unit: write for example p99<=20ms"),
        ("p99<=fast", "duration 'fast' is not understood"),
        ("p99>=20ms", "points the wrong way: p99 is to be at most"),
        ("throughput<=20", "points the wrong way: throughput is to be at least"),
        ("throughput>=many", "write for example throughput>=200"),
        ("throughput>=nan", "write for example throughput>=200"),
        ("errors<=100%", "holds of any run"),
    ],
)
def test_what_is_no_limit_is_refused_with_an_example(text, says):
    with pytest.raises(il.PlanError, match=says):
        Limit.from_text(text)


def test_two_limits_of_one_figure_are_refused():
    assert len(limits_from_texts(["p99<=20ms,errors<=1%", "p50<=1ms"])) == 3
    with pytest.raises(il.PlanError, match=r"two limits of p99\.9: give one"):
        limits_from_texts(["p99.9<=20ms", "p99.9<=30ms"])


@pytest.mark.parametrize(
    ("figure", "bound", "says"),
    [("p42", 1.0, "'p42' cannot be limited"), ("p99", float("nan"), "limit of p99 is nan"),
     ("p99", 0.0, "limit of p99 is 0.0"), ("throughput", 1e300, "at most 1e")],
)  # fmt: skip
def test_a_limit_that_cannot_be_is_refused(figure, bound, says):
    with pytest.raises(il.PlanError, match=says):
        Limit(figure=figure, bound=bound)


@pytest.mark.slow
def test_looking_again_and_again_errs_as_rarely_as_looking_once():
    # calls exactly at the limit: neither can be said, but by chance
    found = []
    for seed in range(200):
        over = np.random.default_rng(seed).random(20_000) < 0.01
        log, count = calls(np.where(over, 10.0, 1.0)), 400
        while count < 20_000:
            part = log.rows(np.arange(count))
            if says_enough(part, [Limit.from_text("p99<=5ms")]):
                found.append(seed)
                break
            count = count * 11 // 10
    # 2 % is expected of both verdict_of_all; 10 of 200 would be far off
    assert len(found) < 10


def calls(service_ms: np.ndarray, failed: int = 0):
    """Calls one after another; the first of them failed."""
    finished = np.cumsum(service_ms) / 1e3
    started = finished - service_ms / 1e3
    log = log_of(started, started, finished)
    if failed:
        log.error[:failed] = 0
        failure = CallFailure(type="E", message="m")
        log = type(log).of(log.columns(), [failure], open_loop=True)
    return log


def judged(text: str, log, unfinished: int = 0):
    (found,) = judged_limits(log, [Limit.from_text(text)], 0.0, unfinished)
    return found


def exponential(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).exponential(1.0, count)  # p99 is 4.6 ms


def test_a_quantile_is_kept_broken_or_open_by_what_its_calls_can_say():
    many = calls(exponential(20_000))
    assert judged("p99<=5.5ms", many).verdict == "kept"
    assert judged("p99<=4ms", many).verdict == "broken"
    assert judged("p99<=4.6ms", many).verdict == "open"
    few = judged("p99<=5.5ms", calls(exponential(300)))
    assert few.verdict == "open"
    assert few.calls_missing > 100


def test_calls_that_failed_or_never_finished_are_over_a_limit():
    fast = np.full(1000, 1.0)
    assert judged("p99<=5ms", calls(fast)).verdict == "kept"
    assert judged("p99<=5ms", calls(fast, failed=40)).verdict == "broken"
    assert judged("p99<=5ms", calls(fast), unfinished=40).verdict == "broken"
    lost = judged("p99<=5ms", calls(fast), unfinished=40)
    assert (lost.value, lost.calls_missing) == (None, None)
    assert judged("p50<=5ms", calls(fast), unfinished=40).value == 1.0


def test_calls_that_are_like_the_one_before_count_for_less():
    # a slow stretch of 100 calls in every 5,000: p99 is within the limit, in the mean
    slow = np.where(np.arange(20_000) % 5000 < 45, 10.0, 1.0)
    shuffled = np.random.default_rng(0).permutation(slow)
    apart, together_ = judged("p99<=5ms", calls(shuffled)), judged("p99<=5ms", calls(slow))
    assert apart.calls_missing < 20_000 < together_.calls_missing


def test_an_error_fraction_is_judged_by_exact_bounds():
    fast = np.full(1000, 1.0)
    assert judged("errors<=1%", calls(fast, failed=2)).verdict == "kept"
    assert judged("errors<=1%", calls(fast, failed=8)).verdict == "open"
    assert judged("errors<=1%", calls(fast, failed=30)).verdict == "broken"
    none = judged("errors<=1%", calls(np.full(100, 1.0)))
    # 459 calls without one are needed to say so at a risk of 1 %
    assert (none.verdict, none.calls_missing) == ("open", 359)
    assert judged("errors<=0", calls(fast)).verdict == "kept"
    assert judged("errors<=0", calls(fast, failed=1)).verdict == "broken"


def test_throughput_is_compared_as_it_is():
    log = calls(np.full(1000, 1.0))
    assert judged("throughput>=999", log).verdict == "kept"
    slow = judged("throughput>=2000", log)
    assert slow.verdict == "broken"
    assert slow.room_fraction == pytest.approx(-0.5)


def test_all_limits_together_are_kept_if_each_is():
    log = calls(exponential(20_000))
    both = judged_limits(log, limits_from_texts(["p50<=2ms,p99<=5.5ms"]))
    assert verdict_of_all(both) == "kept"
    assert verdict_of_all([*both, judged("p99<=4.6ms", log)]) == "open"
    assert verdict_of_all([*both, judged("p99<=4.6ms", log), judged("p99<=4ms", log)]) == "broken"


@pytest.mark.parametrize(("load", "grows"), [(0.5, 0), (0.9, 0), (0.98, 0), (1.1, 20), (2.0, 20)])
def test_a_queue_grows_where_more_is_due_than_is_served(load, grows):
    found = 0
    for seed in range(20):
        drawn = np.random.default_rng(seed)
        due = np.cumsum(drawn.exponential(0.01 / load, 10_000))
        log = simulated_queue(due, drawn.exponential(0.01, 10_000), 1)
        found += backlog_grows(log)
    assert abs(found - grows) <= 1


def test_of_few_calls_nobody_can_say_that_they_pile_up():
    due = np.arange(50) / 1000
    assert not backlog_grows(simulated_queue(due, np.full(50, 0.01), 1))
