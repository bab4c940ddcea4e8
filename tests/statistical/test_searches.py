"""The search for the highest rate, on queues whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inferload.stats.limits.limit import Limit
from inferload.studies import bisection
from inferload.studies.bisection import RateSearch
from inferload.studies.probes import judged_probe
from support.queueing import (
    SimulatedProber,
    highest_rate,
    mmc_response_over,
    result_of,
    simulated_queue,
)

P99, P90 = Limit.from_text("p99<=100ms"), Limit.from_text("p90<=50ms")


def searched(limits, seed=0, service_rate=100, servers=4, **options):
    prober = SimulatedProber(limits, service_rate, servers, seed)
    search = RateSearch(prober, limits, clock=prober.clock, **options)
    return search.search(), search, prober


def test_the_formula_and_the_simulation_agree():
    drawn = np.random.default_rng(0)
    count = 400_000
    due = np.cumsum(drawn.exponential(1 / 320, count))
    log = simulated_queue(due, drawn.exponential(0.01, count), 4)
    # some 50 calls are worth an independent one: 3 sigma of the chances .55, .13 and .02
    for time_s, within in ((0.01, 0.03), (0.03, 0.09), (0.06, 0.24)):
        over = float((log.response_ns > time_s * 1e9).mean())
        assert over == pytest.approx(mmc_response_over(time_s, 320, 100, 4), rel=within)


@pytest.mark.parametrize(("limit", "q"), [(P99, 0.99), (P90, 0.9)])
def test_the_rate_is_found_and_confirmed(limit, q):
    true = highest_rate(limit.bound / 1e3, q, 100, 4)
    errors = []
    for seed in range(4):
        found, search, _ = searched([limit], seed, resolution=0.005, time_limit_s=6000)
        assert found.confirmed
        errors.append(found.rate_per_s / true - 1)
        assert search.probes[-1].confirms
        assert found.next_rate_per_s > found.rate_per_s
    # 100 seeds (benchmarks/search.py): -0.5 % +/- 0.7 %
    assert max(map(abs, errors)) < 0.025


def test_probes_far_from_the_answer_are_short():
    _, search, _ = searched([P99], resolution=0.005, time_limit_s=6000)
    calls = {round(one.rate_per_s): one.run.summary.completed_calls for one in search.probes}
    assert calls[280] < 0.1 * max(calls.values())


def test_a_limit_that_no_rate_keeps_is_said():
    # a service alone takes more than 10 ms in 37 % of calls
    found, search, _ = searched([Limit.from_text("p90<=10ms")], time_limit_s=300)
    assert (found.rate_per_s, found.confirmed) == (None, False)
    assert "a call takes too long by itself, p90 2" in found.reason
    assert search.probes[-1].rate_per_s < 100
    assert not any(one.confirms for one in search.probes)


@pytest.mark.parametrize(
    ("verdicts", "told", "probes"),
    [
        (["broken"], None, None),
        (["open", "open"], None, None),
        (["open", "broken"], None, None),
        (["broken", "broken"], "the limits are not kept at the throughput asked for", 2),
        (["open", "broken", "open"], "not certain in 3 probes", 3),
    ],
)
def test_one_probe_at_a_floor_settles_nothing(verdicts, told, probes, monkeypatch):
    """The first ones say something else: the machine stood still."""
    scripted = iter(verdicts)

    def judged(*given, **how):
        made = judged_probe(*given, **how)
        return replace(made, verdict=next(scripted, made.verdict))

    monkeypatch.setattr(bisection, "judged_probe", judged)
    monkeypatch.setattr(bisection, "keeps_limits", lambda probe: probe.verdict == "kept")
    limits = [P99, Limit.from_text("throughput>=200")]
    found, search, _ = searched(limits, time_limit_s=300)
    if told is None:
        assert found.rate_per_s > 250
    else:
        assert told in found.reason
        assert found.rate_per_s is None
        assert len(search.probes) == probes
        assert found.next_verdict == ("open" if "open" in verdicts else "broken")


def test_a_floor_that_is_out_of_reach_is_said_at_once():
    over, _, prober = searched([P99, Limit.from_text("throughput>=500")], time_limit_s=300)
    assert over.rate_per_s is None
    assert "more than the callers make without a pause, 400/s" in over.reason
    assert not prober.probed
    near, search, _ = searched([P99, Limit.from_text("throughput>=390")], time_limit_s=300)
    assert near.rate_per_s is None
    assert near.reason == "the limits are not kept at the throughput asked for, 390/s"
    assert search.probes[0].rate_per_s == 390
    well, _, _ = searched([P99, Limit.from_text("throughput>=200")], time_limit_s=300)
    assert well.rate_per_s > 300


def test_a_floor_counts_calls_that_returned():
    limit = Limit.from_text("errors<=60%")
    prober = SimulatedProber([limit], 100, 4, seed=0)
    result = prober.probe(300, 20, 0, decide=False)
    result.log.error[::2] = 0
    half = result_of(result.log)
    assert judged_probe(half, 300, [limit], confirms=False, floor=140).verdict == "kept"
    assert judged_probe(half, 300, [limit], confirms=False, floor=160).verdict == "broken"


def test_a_confirmation_of_too_few_calls_confirms_nothing():
    found, search, _ = searched([Limit.from_text("p99.99<=10s")], time_limit_s=20)
    assert search.probes[-1].confirms
    assert search.probes[-1].verdict == "open"
    assert not found.confirmed


def test_overload_is_unstable_whatever_its_latency():
    # a limit that only a long queue breaks: what gives it away is that calls pile up
    prober = SimulatedProber([Limit.from_text("p50<=10s")], 100, 4, seed=0)
    probes = [
        judged_probe(prober.probe(rate, 200, 0, decide=False), rate, prober.limits, confirms=False)
        for rate in (360, 440, 600)
    ]
    assert [one.verdict for one in probes] == ["kept", "unstable", "unstable"]
    (found,) = probes[1].judgements
    assert found.over_fraction < 0.5  # as long as the run lasted the limit was kept
    assert (found.value, found.verdict) == (None, "broken")
    # and of a run that is shorter than ten times the limit nobody can say that it is kept
    short = judged_probe(prober.probe(360, 90, 0, decide=False), 360, prober.limits, confirms=False)
    assert (short.verdict, short.judgements[0].verdict) == ("open", "kept")


def test_a_search_keeps_to_its_time_and_says_that_it_was_over():
    found, search, prober = searched([P99], resolution=0.0001, time_limit_s=300)
    assert found.reason == "time"
    assert prober.time_s < 1.3 * 300
    assert found.rate_per_s is not None
    assert search.probes[-1].confirms


def test_a_search_that_was_interrupted_makes_no_probe_twice():
    whole, search, prober = searched([P99], seed=2, time_limit_s=3000)
    again = SimulatedProber([P99], 100, 4, seed=2)
    second = RateSearch(
        again,
        [P99],
        closed_loop_per_s=400.0,
        done=search.probes[:5],
        spent_s=1000.0,
        time_limit_s=3000,
        clock=again.clock,
    )
    # however much of the time is gone
    late = RateSearch(
        again,
        [P99],
        closed_loop_per_s=400.0,
        done=search.probes,
        spent_s=2990.0,
        time_limit_s=3000,
        clock=again.clock,
    )
    kept = late.search()
    assert (kept.rate_per_s, kept.confirmed) == (whole.rate_per_s, whole.confirmed)
    assert late.probes == search.probes
    assert again.calls == 0
    found = second.search()
    assert second.probes[:5] == search.probes[:5]
    assert again.calls < prober.calls
    assert found.rate_per_s == pytest.approx(whole.rate_per_s, rel=0.03)
    assert found.confirmed
