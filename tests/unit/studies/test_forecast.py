"""Forecasts from services that are known, and what they refuse."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

import inferload as il
from inferload.plan.arrivals.loads import OpenLoop
from inferload.records.distribution import Estimate
from inferload.report.html.studies import study_page
from inferload.report.text.studies.sweeps import study_report
from inferload.stats.service import LEVELS, ServiceProfile
from inferload.studies.forecast.forecaster import run_forecast
from inferload.studies.forecast.measured import Measured
from inferload.studies.forecast.plan import ForecastPlan
from inferload.studies.forecast.sources import Source
from inferload.studies.records.files import save_study
from support.ranks import SPEC


class Silent:
    def stage(self, text): ...
    def progress(self, finished_calls, elapsed_s): ...
    def begins(self, text): ...
    def found(self, text): ...


def profile(k=1, mean_ms=10.0, *, size=None, off=0.0, calls=10_000, even=True, **more):
    shape = np.ones(len(LEVELS)) if even else -np.log1p(-np.minimum(LEVELS, 1 - 1e-5))
    mean = Estimate(value=mean_ms, method="known")
    if off:
        mean = replace(mean, low=mean_ms * (1 - off), high=mean_ms * (1 + off))
    return ServiceProfile(
        in_flight=k, batch_size=size, calls=calls, mean_ms=mean, shape=tuple(shape), **more
    )


def source(*profiles):
    return Source(target="m.py", names=("s.json",), measured=Measured.of(profiles), spec=SPEC)


def forecast(*profiles, **asked):
    asked = {"load": OpenLoop.poisson(1.0)} | asked
    asked["limits"] = tuple(il.Limit.from_text(one) for one in asked.get("limits", ()))
    return run_forecast(ForecastPlan(asked={}, **asked), source(*profiles), Silent())


def text_of(found, width=80):
    out = io.StringIO()
    Console(file=out, width=width).print(study_report(found))
    return out.getvalue()


def test_calls_of_equal_length_wait_as_theory_says():
    (one,) = forecast(profile(), rates_per_s=(70.0,), requests=2_000_000).points
    assert one.load_fraction == pytest.approx(0.7)
    assert one.queue_ms == pytest.approx(10 * 0.7 / (2 * 0.3), rel=0.02)


def test_the_rates_are_shares_of_what_is_made_if_nobody_says():
    found = forecast(profile(1, 10.0), profile(2, 12.0))
    assert found.callers == 2
    assert found.capacity_per_s == pytest.approx(2 / 12e-3)
    shares = [one.rate_per_s / found.capacity_per_s for one in found.points]
    assert shares == pytest.approx([0.3, 0.5, 0.7, 0.85, 0.95])
    p99 = [one.p99_ms.value for one in found.points]
    assert p99 == sorted(p99)


def test_calls_are_as_slow_as_with_so_many_under_way():
    # at a rate that hardly anything meets at, calls take what one alone does
    found = forecast(profile(1, 10.0), profile(4, 40.0), rates_per_s=(1.0, 90.0), callers=4)
    idle, busy = found.points
    assert idle.p50_ms.value == pytest.approx(10.0, rel=0.01)
    assert busy.p50_ms.value > 20
    # four at once share one machine, so that no more is made than by one at a time
    assert found.capacity_per_s == pytest.approx(100.0)


def test_between_numbers_that_were_measured_lies_a_straight_line():
    known = Measured.of([profile(1, 10.0), profile(5, 30.0)])
    assert [known.mean_ns(k, 1) / 1e6 for k in (1, 2, 3, 5, 9)] == pytest.approx(
        [10, 15, 20, 30, 30]
    )


def test_inputs_that_take_longer_are_as_frequent_as_they_were():
    mixed = profile(factors=(0.5, 2.5), shares=(0.75, 0.25))
    (one,) = forecast(mixed, rates_per_s=(0.5,)).points
    assert one.p50_ms.value == pytest.approx(5.0, rel=0.01)
    assert one.p90_ms.value == pytest.approx(25.0, rel=0.01)


def test_what_calls_may_take_widens_what_is_told():
    sure, unsure = (
        forecast(profile(off=off), rates_per_s=(80.0,)).points[0].p99_ms for off in (0.001, 0.1)
    )
    assert unsure.low < sure.low < sure.value < sure.high < unsure.high


def test_a_queue_that_may_grow_without_end_has_no_upper_end():
    found = forecast(profile(off=0.1), rates_per_s=(95.0,), replicas=(1,), limits=["p99<=10s"])
    assert found.points[0].p99_ms.high is None
    assert found.points[0].limits == (False,)
    assert "?" in text_of(found)


def test_more_than_can_be_made_is_no_number():
    found = forecast(profile(), rates_per_s=(50.0, 100.0, 500.0), replicas=(1,), limits=["p99<=1s"])
    assert [one.overloaded for one in found.points] == [False, True, True]
    assert found.points[1].p99_ms is None
    assert found.points[2].limits == (False,)
    assert "the queue grows without end" in text_of(found)


def test_quantiles_that_were_not_measured_are_not_told():
    (one,) = forecast(profile(calls=500), rates_per_s=(50.0,)).points
    assert one.p99_ms is not None
    assert one.p999_ms is None


def test_how_many_replicas_a_rate_needs():
    found = forecast(
        profile(even=False), rates_per_s=(500.0,), limits=["p99<=60ms"], balancing="least-loaded"
    )
    (answer,) = found.needed
    less, enough = found.points
    assert (less.replicas, enough.replicas) == (answer.replicas - 1, answer.replicas)
    assert enough.p99_ms.high <= 60
    assert not less.keeps_all
    assert f"{answer.replicas} replicas" in text_of(found)
    one_lost = forecast(
        profile(even=False), rates_per_s=(500.0,), limits=["p99<=60ms"],
        balancing="least-loaded", lost=1,
    )  # fmt: skip
    assert one_lost.needed[0].replicas == answer.replicas + 1
    assert f"{answer.replicas} serve and 1 is lost" in text_of(one_lost)
    assert [one.replicas for one in one_lost.points] == [answer.replicas, answer.replicas + 1]


def test_a_limit_that_no_number_of_replicas_keeps():
    found = forecast(profile(even=False), rates_per_s=(500.0,), limits=["p99<=20ms"])
    assert found.needed[0].replicas is None
    assert "no number of replicas" in text_of(found)
    assert found.needed[0].reason.startswith("calls take longer by themselves")


def test_replicas_are_looked_for_where_hardly_any_requests_meet():
    # calls take twice as long with two under way: p99 falls as fewer meet
    found = forecast(
        profile(1, 5.0), profile(2, 10.0), rates_per_s=(5000.0,), limits=["p99<=8ms"], callers=2
    )
    (answer,) = found.needed
    assert 1500 < answer.replicas < 4000
    assert found.points[-1].p99_ms.high <= 8
    assert not found.points[0].keeps_all


def test_calls_that_may_be_made_in_turn_are_told_as_both():
    asked = {"rates_per_s": (50.0, 150.0), "requests": 1_000_000, "callers": 2}
    shared = forecast(profile(1, 5.0), profile(2, 10.0), **asked)
    in_turn = forecast(profile(1, 5.0), **asked | {"callers": 1})
    for both, one in zip(shared.points, in_turn.points, strict=True):
        assert both.p99_ms.low == pytest.approx(one.p99_ms.value, rel=0.02)
        assert both.p99_ms.value > both.p99_ms.low * 1.03
    assert any("take turns as with a lock" in one for one in shared.notes)
    side_by_side = forecast(profile(1, 5.0), profile(2, 6.0), **asked)
    assert not any("take turns" in one for one in side_by_side.notes)


def test_batches_make_more_of_a_machine():
    sizes = [profile(1, 10.0 + b, size=b) for b in (1, 2, 4, 8)]
    batching = il.Batching(max_batch=8, max_delay_s=0.005)
    found = forecast(*sizes, rates_per_s=(30.0, 300.0), batching=batching)
    assert found.capacity_per_s == pytest.approx(8 / 18e-3)
    idle, busy = found.points
    assert 1 < idle.mean_batch < 1.5
    assert busy.mean_batch > 3
    assert idle.p50_ms.value == pytest.approx(5 + 11, rel=0.05)
    assert "batch" in text_of(found)


def test_a_replay_comes_as_it_was_recorded():
    times = np.arange(3000) * 0.02
    found = forecast(profile(), load=OpenLoop.replay(times))
    (one,) = found.points
    assert one.rate_per_s == pytest.approx(50.0)
    assert (one.p50_ms.value, one.p99_ms.value) == pytest.approx((10.0, 10.0), rel=0.01)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"callers": 5}, "5 calls at once were not measured, and 2 calls at most"),
        ({"batching": il.Batching(max_batch=4)}, "batches of up to 4 were not measured often"),
        ({"rates_per_s": (5.0,), "limits": ["p99.9<=1s"], "few": 900}, "p99.9 takes 3,688 calls"),
        ({"balancing": "magic"}, "balancing 'magic' is unknown"),
        ({"limits": ["errors<=1%"]}, "errors <= 1% cannot be forecast"),
        ({"limits": ["first p99<=1s"]}, "cannot be forecast"),
        ({"replicas": (0,)}, "replicas"),
        ({"replicas": (2,), "lost": 2}, "2 of 2 replicas are lost"),
        ({"rates_per_s": (-1.0,)}, "a rate"),
        ({"requests": 3}, "requests"),
        ({"load": OpenLoop.staged([il.Stage(rate_per_s=5, duration_s=1)])}, "no stages"),
        ({"load": OpenLoop.replay([0.0, 1.0]), "rates_per_s": (3.0,)}, "replay"),
    ],
)
def test_what_cannot_be_forecast_is_refused(asked, says):
    calls = asked.get("few", 10_000)
    asked = {name: value for name, value in asked.items() if name != "few"}
    with pytest.raises(il.PlanError) as raised:
        forecast(profile(1, calls=calls), profile(2, 12.0, calls=calls), **asked)
    assert says in str(raised.value)


def test_a_little_beyond_what_was_measured_is_told_wider_and_says_so():
    found = forecast(profile(1), profile(2, 12.0), callers=4, rates_per_s=(100.0,))
    (one,) = found.points
    assert found.capacity_per_s == pytest.approx(2 / 12e-3)  # no more is promised
    assert one.p99_ms.low < one.p99_ms.value
    assert any("more than 2 calls at once were not measured" in note for note in found.notes)


def test_several_runs_of_a_kind_are_one_and_what_they_differ_by_is_kept():
    three = [profile(1, mean) for mean in (9.0, 10.0, 11.0)]
    one = Measured.of(three).by[1, 1]
    assert one.mean_ms.value == pytest.approx(10.0)
    half = 4.303 * np.std(np.log([9, 10, 11]), ddof=1) / math.sqrt(3)
    assert one.mean_ms.low == pytest.approx(10 * math.exp(-half), rel=1e-3)
    assert one.mean_ms.high == pytest.approx(10 * math.exp(half), rel=1e-3)


def test_runs_of_other_speeds_are_simulated_with_what_they_make_together():
    windows = {"window_s": 0.1, "speeds": (1.0,) * 50}
    known = Measured.of([profile(1, 1.0, **windows), profile(1, 3.0, **windows)])
    assert known.capacity_per_s(1, 1) == pytest.approx(500.0)
    assert known.replica(1).speed.mean() == pytest.approx(1.0)
    assert set(np.round(known.replica(1).speed, 6)) == {0.5, 1.5}


def test_a_large_fleet_is_as_full_as_it_comes_to_be():
    one, many, in_turn = (
        forecast(
            profile(even=False, mean_ms=1.0),
            rates_per_s=(950.0 * replicas,),
            replicas=(replicas,),
            balancing=balancing,
        ).points[0]
        for replicas, balancing in ((1, "random"), (10_000, "random"), (10_000, "round-robin"))
    )
    theory = -math.log(0.01) / 0.05
    assert one.p99_ms.value == pytest.approx(theory, rel=0.1)
    assert many.p99_ms.value == pytest.approx(theory, rel=0.1)
    assert in_turn.p99_ms.value < 0.6 * theory


def test_requests_in_turn_are_as_regular_as_there_are_replicas():
    alike = {"rates_per_s": (1400.0,), "replicas": (2,), "requests": 2_000_000}
    own = profile(even=False, mean_ms=1.0)
    found = forecast(own, balancing="round-robin", **alike).points[0]
    # E2/M/1: s solves s = (2 r / (2 r + 1 - s))^2 with r the rate over that of calls (Kleinrock)
    s = 0.5
    for _ in range(200):
        s = (1.4 / (1.4 + 1 - s)) ** 2
    assert found.queue_ms == pytest.approx(s / (1 - s), rel=0.03)


def test_too_few_requests_for_queues_to_fill_are_told_of():
    found = forecast(
        profile(), rates_per_s=(95_000.0,), replicas=(1000,), balancing="two-choices", requests=1000
    )
    assert [one.code for one in found.warnings] == ["few-requests"]


def test_full_batches_are_what_is_made_when_more_wait():
    sizes = [profile(1, 1.0, size=1), profile(1, 16.0, size=8)]
    found = forecast(
        *sizes, rates_per_s=(300.0, 700.0), replicas=(1,), batching=il.Batching(max_batch=8)
    )
    assert found.capacity_per_s == pytest.approx(500.0)
    assert [one.overloaded for one in found.points] == [False, True]


def test_batches_smaller_than_any_that_was_measured_are_told_of():
    found = forecast(
        profile(1, 16.0, size=8), rates_per_s=(50.0,), batching=il.Batching(max_batch=8)
    )
    assert any("batches of fewer than 8 were not measured" in note for note in found.notes)
    one = found.points[0].p50_ms
    assert one.low < 4.0
    assert one.value > 15.0


def test_what_may_be_made_beyond_what_was_measured_is_not_called_impossible():
    found = forecast(profile(1), profile(2, 10.0), callers=4, rates_per_s=(300.0, 500.0))
    assert [(one.overloaded, one.may_keep_up) for one in found.points] == [
        (True, True),
        (True, False),
    ]
    assert "over?" in text_of(found)
    assert "4 callers (2 were measured)" in text_of(found)


def test_more_replicas_than_are_told_of():
    found = forecast(profile(), rates_per_s=(9e6,), limits=["p99<=1s"])
    assert found.needed[0].replicas is None
    assert "more than 10,000 would be needed" in found.needed[0].reason


@pytest.mark.parametrize(
    "change",
    [
        {"in_flight": 0},
        {"calls": 0},
        {"mean_ms": Estimate(value=0.0, method="")},
        {"mean_ms": Estimate(value=1.0, low=0.0, high=2.0, method="")},
        {"shape": (1.0,) * 5},
        {"factors": (1.0, 2.0)},
        {"factors": (0.0,)},
        {"speeds": (0.0,) * 10, "window_s": 0.1},
        {"speeds": (1.0,) * 10, "window_s": None},
    ],
)
def test_a_service_that_cannot_be_is_damaged(change):
    with pytest.raises(ValueError, match="service"):
        replace(profile(), **change)


def test_it_is_saved_and_drawn_at_any_width(tmp_path):
    found = forecast(profile(1), profile(2, 12.0), replicas=(1, 3), limits=["p99<=50ms"])
    path = tmp_path / "f.json"
    save_study(found, path)
    assert il.load_study(path) == found
    for width in (80, 200):
        text = text_of(found, width)
        assert max(map(len, text.splitlines())) <= width
        assert "167 requests/s at most" in text
    headline, sections = study_page(found)
    assert headline.title == "m.py"
    assert any(section.charts for section in sections)
