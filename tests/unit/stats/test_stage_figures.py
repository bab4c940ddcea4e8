"""Figures of each stage of a load whose rate changes, in counted time where answers are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import inferload as il
from inferload.log.merge import counted, thinned
from inferload.report.html.run import run_page
from inferload.report.markdown import markdown_text
from inferload.report.text.run import plain_report
from inferload.runs.saved import load_result
from inferload.stats.load_stages import load_stages
from support.virtual_time import simulated

MS = 1_000_000
# One caller serves 200/s: the second stage leaves 1,000 calls behind, served in 5.6 s of the third.
STAGES = (
    il.Stage(rate_per_s=100, duration_s=5),
    il.Stage(rate_per_s=400, duration_s=5),
    il.Stage(rate_per_s=20, duration_s=40),
)


def run(stages=STAGES, service=5 * MS, arrivals="constant", callers=1, seed=0, **options):
    load = {"arrivals": arrivals, "callers": callers, "seed": seed}
    load |= {"drain_s": options.pop("drain_s", 30.0)}
    options.setdefault("warmup", None)
    return simulated(service, il.OpenLoop.staged(stages, **load), **options)


@pytest.fixture(scope="module")
def result() -> il.RunResult:
    return run()


def test_calls_belong_to_the_stage_in_which_they_were_due(result):
    first, second, third = result.load_stages
    assert [one.due_calls for one in result.load_stages] == [500, 2000, 800]
    assert [one.completed_calls for one in result.load_stages] == [500, 2000, 800]
    assert [(one.from_s, one.until_s) for one in (first, third)] == [(0, 5), (10, 50)]
    assert first.response_ms.p90.value == first.response_ms.max == 5.0
    # call k of the second is due after k x 2.5 ms and served after (k + 1) x 5 ms
    assert second.response_ms.max == pytest.approx(2.5 * 1999 + 5)
    assert second.response_ms.quantile(0.5) == pytest.approx(2.5 * 999 + 5)
    # call k of the third waits for what is left of 5 s: 1,000 calls, and 45 ms less for each
    assert third.response_ms.max == pytest.approx(5005)
    assert third.response_ms.quantile(0.5) == 5.0
    assert first.lateness_ms.max == 0
    assert [one.waiting_calls for one in result.load_stages] == [0, 0, pytest.approx(1000, abs=1)]


def test_what_was_served_is_of_the_time_of_a_stage_whenever_calls_were_due(result):
    served = [one.served_per_s for one in result.load_stages]
    assert served[:2] == pytest.approx([100, 200], rel=0.003)
    assert served[2] == pytest.approx((800 + 1000) / 40, rel=0.003)


def test_a_queue_that_grows_is_told_of_its_stage_alone(result):
    first, second, third = result.load_stages
    assert (first.overload, third.overload) == (None, None)
    assert second.overload.utilisation == pytest.approx(2, rel=0.01)
    assert second.behind_from_s == pytest.approx(5, abs=0.01)
    assert second.behind_at_per_s == 400
    assert second.response_ms.not_quoted == "overloaded"
    assert (first.response_ms.not_quoted, third.response_ms.not_quoted) == (None, None)


def test_over_all_nothing_is_quoted_then_and_little_s_law_holds(result):
    summary = result.summary
    assert summary.overload.utilisation == pytest.approx(2, rel=0.01)
    assert summary.response_ms.not_quoted == "overloaded"
    assert {summary.response_ms.p50, summary.queue_ms.p99} == {None}
    assert summary.response_ms.more_calls == {}
    assert not il.certificate(result, "p50", 60_000.0).certified
    mean_s, calls, busy_s = summary.response_ms.mean / 1e3, 3300, 50.0
    in_flight = result.log.response_ns.sum() / 1e9 / busy_s
    assert mean_s * calls / busy_s / in_flight == pytest.approx(1)


def test_the_warning_names_the_stage_the_rate_at_which_it_fell_behind_and_a_rate_that_is_served():
    low = il.Stage(rate_per_s=20, duration_s=5)
    stages = [low, il.Stage(rate_per_s=20, to_per_s=420, duration_s=20)]
    found = run(stages)
    # the ramp passes 200/s after 9 s, and is a call ahead of what is served sqrt(1 / 10) s later
    assert found.load_stages[1].behind_from_s == pytest.approx(14 + 0.1**0.5, abs=0.01)
    assert found.load_stages[1].behind_at_per_s == pytest.approx(200 + 20 * 0.1**0.5, abs=0.2)
    told = {one.code: one for one in found.warnings}["overloaded"]
    assert told.message.startswith(
        "in stage 2 of 2 (20..420/20s) the queue grew from 14.3 s on, at 206/s: 200 of 313 due "
        "calls/s were served"
    )
    assert told.hint == "rates up to 160/s, or callers=3 in load if so many calls can run at once"
    # also where the second begins with what the first has left behind
    both = run([*STAGES[:2], *STAGES])
    told = {one.code: one for one in both.warnings}["overloaded"]
    assert told.message.startswith("in 2 of 5 stages, first 400/5s,")


def test_a_ramp_that_passes_what_is_served_near_its_end_is_found_as_well():
    found = run([il.Stage(rate_per_s=0, to_per_s=220, duration_s=100)])
    (one,) = found.load_stages
    # it passes 200/s after 90.9 s: nine of ten stretches of time show nothing of that
    assert one.overload.served_per_s == pytest.approx(200, rel=0.01)
    assert one.behind_at_per_s == pytest.approx(200, rel=0.02)
    short = run([il.Stage(rate_per_s=0, to_per_s=199, duration_s=100)])
    assert short.load_stages[0].overload is None


def test_a_ramp_that_is_served_is_steady_enough_and_quoted():
    ramp = [il.Stage(rate_per_s=10, to_per_s=190, duration_s=60)]
    found = run(ramp, arrivals="poisson", seed=2)
    assert found.summary.overload is None
    assert found.summary.response_ms.p50.value > 5
    assert found.steady is None
    assert found.summary.from_s == 0
    assert not {"unsteady", "overloaded"} & {one.code for one in found.warnings}
    assert found.load_stages[0].due_calls == found.summary.completed_calls


def test_of_a_run_that_ends_early_only_the_stages_that_it_came_to_are_told():
    found = run(duration_s=7.0)
    assert [one.due_calls for one in found.load_stages] == [500, 800]
    assert found.load_stages[1].until_s == 7.0
    text = plain_report(found)
    assert "400/5s (2 s of it)" in text
    assert "1 more stage did not begin" in text


def test_calls_that_were_never_made_are_those_of_their_stage():
    found = run(STAGES[:2], drain_s=1.0)
    first, second = found.load_stages
    # 5 s of 2,000 calls are made, and a second more
    assert (first.unfinished_calls, second.unfinished_calls) == (0, pytest.approx(800, abs=2))
    assert second.unfinished_calls == found.summary.unfinished_calls
    assert second.due_calls == 2000 == second.completed_calls + second.unfinished_calls
    assert "unfinished" in plain_report(found)


def test_failed_calls_are_those_of_their_stage():
    def made(clock):
        calls = []

        def call(_):
            calls.append(1)
            clock.sleep(MS)
            if len(calls) > 450:
                raise ValueError("no")

        return call

    found = run([STAGES[0], STAGES[0]], made, on_error="record")
    assert [one.failed_calls for one in found.load_stages] == [50, 500]
    assert [one.completed_calls for one in found.load_stages] == [450, 0]
    assert found.load_stages[1].response_ms is None


def test_several_queues_are_each_judged(result):
    two = replace(
        result.log,
        caller=np.arange(len(result.log), dtype=np.int32) % 2,
        callers_by_lane=(1,),
    )
    due_ns = np.sort(result.log.scheduled_ns)
    found = load_stages(two, STAGES, due_ns, 50.0)
    assert found[1].overload.queues == ((0, 0), (1, 0))
    assert found[0].overload is None


def test_of_a_log_that_is_a_sample_the_figures_are_those_of_all_calls(result):
    some = thinned(counted(result.log, 1), 4)
    due_ns = np.sort(result.log.scheduled_ns)
    found = load_stages(some, STAGES, due_ns, 50.0)
    assert len(some) < 1000
    assert [one.due_calls for one in found] == [500, 2000, 800]
    assert [one.completed_calls for one in found] == [500, 2000, 800]
    assert [one.served_per_s for one in found] == pytest.approx([100, 200, 45], rel=0.2)
    assert [one.overload is None for one in found] == [True, False, True]
    assert found[0].lateness_ms is None
    assert found[0].response_ms.more_calls["p99"] > 4 * 200


def test_stages_are_saved_loaded_and_shown_everywhere(result, tmp_path):
    result.save(tmp_path / "r.json")
    assert "sample" not in (tmp_path / "r.json").read_text()
    again = load_result(tmp_path / "r.json")
    assert again.load_stages == result.load_stages
    assert again.spec.load_stages == STAGES
    for text in (plain_report(again), markdown_text(again).partition("<details>")[0]):
        assert "400/5s" in text
        assert "grew" in text
        assert "1,000 waited" in text
        assert "not asked: the rate changes" in text
        assert "in a stage, so that latencies say" in text
    assert max(map(len, plain_report(again).splitlines())) <= 80
    sections = {one.title: one.body for one in run_page(again)[1]}
    assert "400/5s" in sections["Stages of the load"]
    assert run(STAGES[:1]).load_stages[0].overload is None


def test_loads_of_one_rate_have_no_stages():
    found = simulated(5 * MS, il.OpenLoop.constant(100), calls=50)
    assert found.load_stages == ()
    assert "stage" not in plain_report(found)
