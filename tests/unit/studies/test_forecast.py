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
    assert "1 of them lost" in text_of(one_lost)


def test_a_limit_that_no_number_of_replicas_keeps():
    found = forecast(profile(even=False), rates_per_s=(500.0,), limits=["p99<=20ms"])
    assert found.needed[0].replicas is None
    assert "no number of replicas" in text_of(found)


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
        ({"batching": il.Batching(max_batch=4)}, "no batches were measured"),
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
    with pytest.raises(il.PlanError) as raised:
        forecast(profile(1), profile(2, 12.0), **asked)
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
    half = 4.303 * 1.0 / math.sqrt(3)
    assert (one.mean_ms.low, one.mean_ms.high) == pytest.approx((10 - half, 10 + half), rel=1e-3)


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
