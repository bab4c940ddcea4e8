"""When a queue grows, and how often chance is taken for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import inferload as il
from inferload.log.merge import LogPlace, counted, merged
from inferload.stats.limits.judging import judged_limits
from inferload.stats.limits.limit import Limit
from inferload.stats.steadiness.overload import overload_of
from inferload.stats.summary import model_figures, summarize
from support.queueing import log_of, simulated_queue
from support.virtual_time import simulated

MS = 1_000_000


def found_in(
    load: float, calls: int, runs: int, arrivals: str, service: str, servers: int, cut: float = 0.0
) -> float:
    """Of queues at a load: taken for overloaded by what came after a part that is cut off."""
    drawn = np.random.default_rng([int(100 * load), calls])
    found = 0
    for _ in range(runs):
        mean_s = 1e-3 / load / servers
        gaps = np.full(calls, mean_s)
        if arrivals == "poisson":
            gaps = drawn.exponential(mean_s, calls)
        elif arrivals == "bursts":
            gaps = drawn.gamma(0.25, 4 * mean_s, calls)
        took = np.full(calls, 1e-3) if service == "even" else drawn.exponential(1e-3, calls)
        due = np.cumsum(gaps)
        found += overload_of(simulated_queue(due, took, servers), cut * due[-1]) is not None
    return found / runs


QUEUES = [("poisson", "random", 1), ("poisson", "even", 2), ("bursts", "random", 1),
          ("even", "even", 1)]  # fmt: skip


@pytest.mark.parametrize("queue", QUEUES)
@pytest.mark.parametrize(("load", "most"), [(0.8, 0.01), (0.9, 0.03), (0.98, 0.04)])
def test_a_queue_that_is_served_is_rarely_taken_for_one_that_grows(queue, load, most):
    # 0 to 1.7 % of 500 runs each of 200 and of 1,000 calls; one of 100 more is a standard error
    assert found_in(load, 200, 100, *queue) <= most
    assert found_in(load, 1000, 40, *queue) <= most + 0.02


@pytest.mark.parametrize("queue", QUEUES)
def test_a_queue_that_grows_by_a_quarter_is_found_within_a_few_thousand_calls(queue):
    assert found_in(1.25, 5000, 10, *queue) == 1
    assert found_in(1.5, 200, 40, *queue) >= (0.2 if queue[0] == "bursts" else 0.85)


@pytest.mark.parametrize("queue", QUEUES)
@pytest.mark.parametrize("cut", [0.3, 0.5, 0.8])
def test_what_waited_when_the_measured_part_began_hides_no_overload(queue, cut):
    assert found_in(1.5, 5000, 10, *queue, cut) == 1
    assert found_in(0.95, 1000, 50, *queue, cut) <= 0.06


def overloaded_run(**options):
    """MEASUREMENT: 250/s of a 5 ms target for 10 s."""
    return simulated(5 * MS, il.OpenLoop.constant(250, **options), duration_s=10.0, warmup="auto")


def test_of_an_overload_no_latency_is_quoted_and_the_way_out_is_less_never_longer():
    result = overloaded_run()
    summary, codes = result.summary, {one.code: one for one in result.warnings}
    overload = summary.overload
    assert overload.asked_per_s == pytest.approx(250, rel=0.01)
    assert overload.served_per_s == pytest.approx(200, rel=0.01)
    assert overload.utilisation == pytest.approx(1.25, rel=0.01)
    for one in (summary.response_ms, summary.queue_ms):
        assert one.not_quoted == "overloaded"
        assert {one.p50, one.p99} == {None}
        assert one.more_calls == {}
        assert one.quantile(0.5) > 1000  # whoever asks is told
    assert summary.service_ms.p50.value == 5.0
    assert summary.littles_law is None
    assert "too-few-calls" not in codes
    assert codes["overloaded"].message.startswith(
        "the caller served 200 of 250 due calls/s (utilisation 125%)"
    )
    assert "rate_per_s=159)" in codes["overloaded"].hint
    assert "callers=2 in load if" in codes["overloaded"].hint
    assert not any("duration" in one.hint or "run longer" in one.hint for one in result.warnings)
    text = str(result)
    assert "not quoted: the queue grew through the run" in text
    latency = next(line for line in text.splitlines() if line.startswith("latency"))
    assert latency.split()[2] == "-"  # nor is the mean
    assert not il.certificate(result, "p50", 10_000.0).certified


def test_the_rate_that_an_overload_had_by_the_draw_is_told_beside_the_one_asked_for():
    result = simulated(10 * MS, il.OpenLoop.poisson(150), duration_s=4.0)
    due = f"{result.summary.overload.asked_per_s:.0f}"
    message = next(one.message for one in result.warnings if one.code == "overloaded")
    assert f"of {due} due calls/s (utilisation " in message
    assert f"%; {due}/s by the draw, 150/s on average): the queue grew" in message
    assert f"; {due}/s were due by the draw, 150/s on average" in " ".join(str(result).split())


@pytest.mark.parametrize("load", [il.OpenLoop.constant(159), il.OpenLoop.constant(250, callers=2)])
def test_what_the_hint_of_an_overload_says_helps(load):
    result = simulated(5 * MS, load, duration_s=10.0, warmup="auto")
    assert result.summary.overload is None
    assert result.summary.response_ms.p90.value == 5.0


def test_calls_that_an_overload_leaves_unfinished_have_one_way_out_as_well():
    result = overloaded_run(drain_s=0.5)
    codes = {one.code: one for one in result.warnings}
    assert result.summary.unfinished_calls > 300
    assert result.summary.overload is not None
    assert "as far as [overloaded] says" in codes["unfinished"].hint


def test_a_limit_of_a_queue_that_grows_is_broken_and_has_no_value():
    result = overloaded_run()
    (found,) = judged_limits(result.log, [Limit.from_text("p50<=10s")])
    assert (found.verdict, found.value, found.low) == ("broken", None, None)


def test_a_counted_run_is_judged_as_a_raw_one():
    drawn = np.random.default_rng(0)
    for load, grows in ((0.9, False), (1.2, True)):
        due = np.cumsum(drawn.exponential(1e-3 / load, 20_000))
        log = simulated_queue(due, drawn.exponential(1e-3, 20_000), 1)
        summary = summarize(counted(log, 1), (1,))
        assert (summary.overload is not None) == grows
        assert (summary.response_ms.p50 is None) == grows


def test_of_very_many_calls_some_are_looked_at_and_say_the_same(monkeypatch):
    drawn = np.random.default_rng(5)
    for load in (0.95, 1.1):
        gaps = drawn.exponential(1e-3 / load, 12_000)
        log = simulated_queue(np.cumsum(gaps), drawn.exponential(1e-3, 12_000), 1)
        whole = overload_of(log)
        monkeypatch.setattr("inferload.stats.steadiness.overload.ENOUGH_CALLS", 2000)
        some = overload_of(log)
        monkeypatch.undo()
        assert (some is None) == (whole is None) == (load < 1)
        if some is not None:
            assert some.asked_per_s == pytest.approx(whole.asked_per_s, rel=0.01)
            assert some.served_per_s == pytest.approx(whole.served_per_s, rel=0.01)


def test_one_process_of_three_that_falls_behind_is_named():
    drawn = np.random.default_rng(1)
    logs = []
    for number, rate in enumerate((700.0, 1400.0, 700.0)):
        due = np.cumsum(drawn.exponential(1 / rate, 2000))
        place = LogPlace(callers=1, first_caller=number)
        logs.append((simulated_queue(due, np.full(2000, 1e-3), 1), place))
    log = merged(logs, [1], open_loop=True, inputs=1)
    found = summarize(log, (1,), callers=3).overload
    assert (found.queues, found.queues_in_all) == (((1, 0),), 3)
    assert found.served_per_s == pytest.approx(1000, rel=0.02)


def test_a_model_of_a_mix_that_falls_behind_is_not_quoted_and_the_other_is():
    # models with callers of their own have a queue each
    drawn = np.random.default_rng(2)
    shares, logs = [], []
    for number, (name, rate) in enumerate((("quick", 500.0), ("slow", 1400.0))):
        due = np.cumsum(drawn.exponential(1 / rate, 2000))
        place = LogPlace(callers=1, first_caller=number, first_input=number)
        logs.append((simulated_queue(due, np.full(2000, 1e-3), 1), place))
        shares.append(
            il.ModelShare(
                name=name, target="t", form="eager", weight=0.5, first_input=number, inputs=1,
                callers=1,
            )
        )  # fmt: skip
    log = merged(logs, [1, 1], open_loop=True, inputs=2)
    summary = summarize(log, (1, 1), callers=2)
    assert summary.overload.queues == ((0, 1),)
    quick, slow = (model_figures(log, one, n, summary) for n, one in enumerate(shares))
    assert (quick.response_ms.not_quoted, slow.response_ms.not_quoted) == (None, "overloaded")
    assert quick.response_ms.p50 is not None
    assert slow.response_ms.p50 is None
    # one queue for both: neither is told from the other
    both = [replace(one, callers=None) for one in shares]
    assert all(
        model_figures(log, one, n, summary).response_ms.p50 is None for n, one in enumerate(both)
    )


def test_a_stall_is_no_overload():
    due = np.arange(4000) / 200
    for begins in (2.0, 10.0, 19.0):
        took = np.full(4000, 1e-3)
        took[int(200 * begins)] = 1.0
        assert overload_of(simulated_queue(due, took, 1)) is None


@pytest.mark.parametrize("rate", [300, 500, 550, 600, 640])
def test_batches_that_keep_up_are_no_overload_whenever_one_looks(rate: int):
    """8 ms and 1 ms a request, up to 16 at once: how many wait goes up and down with each batch."""
    due = np.arange(2200) / rate
    started, finished, free, row = np.empty(2200), np.empty(2200), 0.0, 0
    while row < len(due):
        free = max(free, due[row])
        end = row + min(int(np.count_nonzero(due[row:] <= free)), 16)
        started[row:end] = free
        free += 0.008 + 0.001 * (end - row)
        finished[row:end] = free
        row = end
    log = log_of(due, started, finished)
    for looked in range(1000, 2200, 5):
        assert overload_of(log.rows(slice(looked)), deviations=3.0) is None, looked


def test_a_closed_loop_is_never_overloaded():
    times = np.arange(1000) / 10
    assert overload_of(replace(log_of(times, times + 5, times + 6), open_loop=False)) is None
