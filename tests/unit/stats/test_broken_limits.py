"""A run that is given limits: when it is found that one is broken, and what is said in the end."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import torch

import inferload as il
from inferload.log.failures import CallFailure
from inferload.report.text.run import plain_report
from inferload.runs.checks.limits import limit_verdicts
from inferload.runs.checks.load import due_per_s
from inferload.runs.saved import load_result
from inferload.stats.limits.limit import Limit, limits_given
from inferload.stats.load_stages import load_stages
from inferload.stats.stopping import StopAtBroken, StopByPrecision
from inferload.stats.summary import summarize
from support.queueing import simulated_queue
from support.virtual_time import simulated

MS = 1_000_000
STAGES = tuple(
    il.Stage(rate_per_s=rate, duration_s=lasts) for rate, lasts in ((40, 200), (80, 200), (40, 600))
)


def queue(calls: int = 4000, load: float = 0.5, seed: int = 0) -> il.CallLog:
    """M/M/1, services of 10 ms: the response is exponential, of the mean 10 ms / (1 - load)."""
    generator = np.random.default_rng(seed)
    due_s = np.cumsum(generator.exponential(0.01 / load, calls))
    return simulated_queue(due_s, generator.exponential(0.01, calls), 1)


def staged(stages=STAGES, seed: int = 0) -> il.CallLog:
    due_s = il.OpenLoop.staged(stages, seed=seed).schedule(None, None).times_ns / 1e9
    return simulated_queue(due_s, np.random.default_rng([seed, 1]).exponential(0.01, len(due_s)), 1)


def watched(log: il.CallLog, *texts: str, stages=(), **more: object) -> StopAtBroken:
    """Shown the calls as they finish, as often as a run is looked at."""
    rule = StopAtBroken(limits_given(texts), cut=False, stages=stages, **more)
    order = np.argsort(log.finished_ns)
    for calls in range(10, len(log) + 1, 10):
        if calls >= rule.next_calls and rule.enough(log.rows(order[:calls]), calls):
            break
    return rule


def test_a_limit_that_is_broken_is_found_long_before_the_end_and_one_that_is_kept_never():
    # p90 of M/M/1 at half load is 20 ms x ln 10 = 46 ms
    kept, broken = watched(queue(), "p90<=70ms"), watched(queue(), "p90<=25ms", "errors<=1%")
    assert kept.broken == {}
    ((limit, (when_s, stage)),) = broken.broken.items()
    assert (limit, stage) == ("p90<=25ms", None)
    assert when_s < 0.5 * queue().finished_ns.max() / 1e9


def test_a_limit_at_the_figure_itself_is_seldom_taken_for_broken():
    limit = f"p90<={20 * np.log(10)}ms"
    found = sum(bool(watched(queue(1500, seed=seed), limit).broken) for seed in range(100))
    # at a risk of 1 % of a run, three of a hundred are exceeded by chance in 2 of 100 such tests
    assert found <= 3


def failing(log: il.CallLog, every: int) -> il.CallLog:
    error = np.where(np.arange(len(log)) % every == every - 1, 0, -1).astype(np.int32)
    failure = CallFailure(type="ValueError", message="no")
    return replace(log, error=error, errors=(failure,))


def test_errors_are_judged_by_however_few_calls():
    log = failing(queue(300), 5)
    assert watched(log, "errors<=1%").broken["errors<=1%"][0] < log.finished_ns[100] / 1e9
    assert watched(log, "errors<=30%").broken == {}
    assert watched(queue(300), "errors<=0").broken == {}


def test_throughput_is_judged_in_the_end():
    assert watched(queue(), "throughput>=500").broken == {}


def test_calls_of_stages_are_judged_by_those_of_their_stage():
    # p50 is 50 ms x ln 2 = 35 ms at 80/s, and 12 ms before and after: of all calls less than 20 ms
    log = staged()
    assert watched(log, "p50<=20ms").broken == {}
    when_s, stage = watched(log, "p50<=20ms", stages=STAGES).broken["p50<=20ms"]
    assert stage == 2
    assert 200 < when_s < 500
    assert watched(log, "p50<=70ms", stages=STAGES).broken == {}


def test_a_queue_that_grows_at_the_top_of_a_ramp_breaks_any_limit_of_a_duration():
    ramp = (il.Stage(rate_per_s=10, to_per_s=180, duration_s=60),)
    when_s, stage = watched(staged(ramp), "p50<=10s", stages=ramp).broken["p50<=10000ms"]
    assert (stage, when_s < 60) == (1, True)
    calls = il.OpenLoop.staged(ramp).schedule(None, None).times_ns
    found = load_stages(staged(ramp), ramp, calls, 60.0)[0]
    # it passes 100/s after 32 s
    assert found.overload is not None
    assert 90 < found.behind_at_per_s < 125


def test_another_rule_ends_the_run_as_well():
    rule = watched(queue(), "p90<=70ms", other=StopByPrecision(0.3, "p50", cut=False))
    assert rule.broken == {}
    assert rule.widths.keys() == {"p50", "throughput"}


def verdicts(log, *texts, stages=(), unfinished=0, broken=None):
    summary = summarize(log, (1,), unfinished=unfinished)
    due_ns = np.sort(log.scheduled_ns)
    lasted_s = sum(one.duration_s for one in stages)
    found = load_stages(log, stages, due_ns, lasted_s)
    return limit_verdicts(log, texts, summary, found, broken or {})


def test_in_the_end_each_limit_is_kept_broken_or_open():
    log = queue()
    found = verdicts(log, "p90<=80ms", "p50<=5ms", "p99.9<=400ms", "throughput>=45", "errors<=1%")
    assert [one.verdict for one in found] == ["kept", "broken", "open", "kept", "kept"]
    assert found[0].value == pytest.approx(46, rel=0.15)
    assert found[2].calls_missing > 0
    assert [one.limit for one in found][3] == "throughput>=45"


def test_what_ended_a_run_is_broken_whatever_its_last_calls_say():
    (found,) = verdicts(queue(), "p90<=80ms", broken={"p90<=80ms": (3.5, None)})
    assert (found.verdict, found.broken_at_s, found.calls_missing) == ("broken", 3.5, None)


def test_of_stages_the_worst_is_told():
    log = staged()
    broken, tight, kept = verdicts(log, "p50<=20ms", "p90<=4s", "errors<=5%", stages=STAGES)
    assert (broken.verdict, broken.stage) == ("broken", 2)
    assert (tight.verdict, tight.stage) == ("kept", 2)  # it has the least room
    assert (kept.verdict, kept.value) == ("kept", 0)
    pause = (STAGES[0], il.Stage(rate_per_s=0, duration_s=5), STAGES[0])
    (found,) = verdicts(staged(pause), "p50<=1s", stages=pause)
    assert (found.verdict, found.stage in {1, 3}) == ("kept", True)


def slow(x):
    time.sleep(0.0005)
    return x


def test_a_run_ends_by_its_limit_and_says_so(tmp_path):
    result = il.run(slow, [torch.zeros(1)], calls=100_000, limit="p50<=1us,errors<=1%")
    broken, errors = result.limits
    assert broken.verdict == "broken"
    assert errors.verdict in {"kept", "open"}  # of how many calls were made until then
    assert result.status == "complete"
    assert broken.broken_at_s <= result.log.finished_ns.max() / 1e9
    assert result.summary.completed_calls < 100_000
    assert "calls-lost" not in {one.code for one in result.warnings}
    result.save(tmp_path / "r.json")
    again = load_result(tmp_path / "r.json")
    assert again.limits == result.limits
    assert again.spec.limits == ("p50<=0.001ms", "errors<=1%")
    said = " ".join(plain_report(again).split())
    assert "limit p50 <= 1.00 us: broken; " in said
    assert "; this ended the run after" in said


def test_an_open_loop_that_ends_by_its_limit_has_the_rate_of_its_time():
    load = il.OpenLoop.constant(1000, callers=2)
    result = il.run(slow, [torch.zeros(1)], load=load, duration_s=60.0, limit="p50<=1us")
    assert result.limits[0].broken_at_s < 20
    assert due_per_s(result) == pytest.approx(1000, rel=0.05)


def test_stages_are_named_where_a_limit_broke():
    stages = [il.Stage(rate_per_s=20, duration_s=20), il.Stage(rate_per_s=400, duration_s=5)]
    load = il.OpenLoop.staged(stages, arrivals="constant")
    result = simulated(5 * MS, load, warmup=None, limit=["p90<=10ms", "throughput>=90"])
    latency, throughput = result.limits
    assert (latency.verdict, latency.stage, latency.value) == ("broken", 2, None)
    assert (throughput.verdict, throughput.stage) == ("broken", None)
    assert "p90 <= 10.0 ms: broken; in stage 2 of 2, 400/5s" in " ".join(str(result).split())


def test_limits_in_words_are_written_so_that_they_are_read_again():
    texts = ["p99<=20ms", "p99.9<=1.25s", "errors<=0", "errors<=0.1%", "throughput>=12.5/s"]
    for limit in [*map(Limit.from_text, texts), Limit(figure="p50", bound=1e-5)]:
        assert Limit.from_text(limit.written) == limit
    assert limits_given(None) == limits_given([]) == ()


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (5, "limit is 5: give 'p99<=20ms'"),
        ([5], "a limit is 5"),
        ("p99", "limit 'p99' is not understood"),
        (["p99<=2ms", il.Limit(figure="p99", bound=3.0)], "two limits of p99"),
    ],
)
def test_what_is_no_limit_of_a_run_is_refused(limit, words):
    with pytest.raises(il.PlanError, match=words):
        il.run(slow, [torch.zeros(1)], calls=10, limit=limit)
