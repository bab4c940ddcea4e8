"""Open loops on the system's clock, over both executors."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time

import numpy as np
import pytest
import torch

import inferload as il
from inferload.callers.local.preparing import Share, prepared
from inferload.callers.python.executor import ThreadsExecutor
from inferload.plan.options import RunOptions
from inferload.stats import stopping
from inferload.targets.as_target import as_target
from inferload.targets.inputs.call_input import input_order
from inferload.targets.inputs.given import as_call_inputs
from support import models
from support.gates import PATIENCE_S, Interrupts, Tally
from support.virtual_time import replayed, simulated

X = torch.zeros(1)
# With it the shuffled order of 100 inputs has the last of them 86 calls or more apart.
SPREAD = 96
BOTH = ["threads", pytest.param("native", marks=pytest.mark.native)]


class Works(torch.nn.Module):
    """As many multiplications as its input says."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.ones(64, 64)
        for _ in range(int(x[0])):
            y = torch.mm(y, y) * 0.01
        return y


def for_executor(model: torch.nn.Module, executor: str) -> torch.nn.Module:
    return torch.jit.script(model) if executor == "native" else model


@pytest.mark.skipif(sys.platform != "linux", reason="timer slack is Linux's")
@pytest.mark.parametrize("load", [il.ClosedLoop(), il.OpenLoop.constant(200)])
def test_python_calls_have_the_timer_slack_that_any_thread_has(load):
    libc, found = ctypes.CDLL(None), set()

    def slack_ns(_: torch.Tensor) -> None:
        found.add(libc.prctl(30, 0, 0, 0, 0))  # PR_GET_TIMERSLACK

    il.run(slack_ns, [X], load=load, calls=20, executor="threads")
    assert found == {libc.prctl(30, 0, 0, 0, 0)}


@pytest.mark.parametrize("executor", BOTH)
@pytest.mark.parametrize("callers", [1, 3])
def test_every_due_call_is_made_once_at_or_after_its_time(executor, callers):
    load = il.OpenLoop.poisson(2000, callers=callers, seed=5)
    inputs = [torch.zeros(n) for n in (1, 2, 3)]
    result = il.run(
        for_executor(models.NoOp(), executor), inputs, load=load, calls=600, executor=executor
    )
    log = result.log
    assert np.array_equal(log.scheduled_ns, load.schedule(600, None).times_ns)
    assert np.array_equal(log.input, input_order(3, 600, seed=0)[np.arange(600)])
    assert (log.started_ns >= log.scheduled_ns).all()
    assert (log.finished_ns >= log.started_ns).all()
    assert result.summary.completed_calls == 600
    assert result.summary.unfinished_calls == 0
    assert "poisson 2,000/s" in str(result)
    for caller in range(callers):
        mine = log.caller == caller
        assert (log.started_ns[mine][1:] >= log.finished_ns[mine][:-1]).all()


@pytest.mark.parametrize("executor", BOTH)
@pytest.mark.parametrize("callers", [1, 2, 4])
def test_no_caller_is_idle_while_a_call_is_due_and_none_begins_before_its_turn(executor, callers):
    # one call in 100 is held until all but the last held ones before the next were made, by callers
    # that must be free for them; a lone caller holds up the calls behind it. The exact queue is in
    # tests/statistical, on a simulated clock.
    made, held = Tally(), []

    def call(x: torch.Tensor) -> None:
        if float(x) and callers > 1:
            held.append(made.reaches(made.count + 60))
        elif float(x):
            time.sleep(0.1)
        made.add()

    inputs = [torch.zeros(1)] * 99 + [torch.ones(1)]
    load = il.OpenLoop.constant(400, callers=callers)
    model = for_executor(models.asking(call), executor)
    result = il.run(
        model, inputs, load=load, calls=400, executor=executor, warmup_calls=0, seed=SPREAD
    )
    log = result.log
    assert result.summary.completed_calls == 400
    assert held == ([] if callers == 1 else [True] * 4)
    # no queue can serve these calls sooner
    assert (log.started_ns >= replayed(log.scheduled_ns, log.service_ns, callers)).all()
    if callers == 1:
        first = int(np.flatnonzero(log.input == 99)[0])
        behind = np.arange(400) > first
        assert (log.started_ns[behind] >= log.finished_ns[first]).all()
        assert log.queue_ns.max() > 0.08e9  # the next was due 2.5 ms after a call of 100 ms


@pytest.mark.parametrize("executor", BOTH)
def test_no_caller_of_many_sleeps_through_a_burst(executor):
    # as many calls due at once as there are callers, and only one caller a core watches the clock:
    # the others have to be woken while the first are still in their calls. None returns before
    # all of them are.
    callers = 2 * os.cpu_count()
    bursts = np.repeat(np.arange(10) * 0.1, callers)
    together = threading.Barrier(callers)
    result = il.run(
        for_executor(models.asking(lambda _: together.wait(PATIENCE_S)), executor),
        [X],
        load=il.OpenLoop.replay(bursts, callers=callers),
        executor=executor,
        warmup_calls=0,
    )
    assert result.summary.completed_calls == len(bursts)
    for burst in range(10):
        own = slice(burst * callers, (burst + 1) * callers)
        assert set(result.log.caller[own]) == set(range(callers))


@pytest.mark.parametrize("executor", BOTH)
def test_a_late_call_keeps_its_scheduled_time(executor):
    # all due at once: the k-th response holds the k services before it
    load = il.OpenLoop.replay([1.0] * 50)
    with torch.inference_mode():
        result = il.run(
            for_executor(Works(), executor),
            [torch.tensor([200.0])],
            load=load,
            executor=executor,
            threads_per_call=1,
        )
    log = result.log
    assert (log.scheduled_ns == 0).all()
    assert (log.response_ns >= np.cumsum(log.service_ns)).all()
    assert len(log) == 50


@pytest.mark.parametrize("executor", BOTH)
def test_calls_beyond_the_drain_limit_are_counted_as_unfinished(executor):
    load = il.OpenLoop.constant(5000, callers=2, drain_s=0.05)
    with torch.inference_mode():
        result = il.run(
            for_executor(Works(), executor),
            [torch.tensor([2000.0])],
            load=load,
            duration_s=0.2,
            executor=executor,
            threads_per_call=1,
        )
    summary = result.summary
    assert summary.unfinished_calls > 0
    assert summary.completed_calls + summary.unfinished_calls == 1000
    # a caller that has looked at the clock may lose the core before it starts its call
    assert np.count_nonzero(result.log.started_ns > 0.25e9) <= 2
    assert "unfinished" in [one.code for one in result.warnings]
    assert f"{summary.unfinished_calls:,} unfinished" in str(result)


def test_no_call_begins_after_the_drain_limit():
    load = il.OpenLoop.constant(5000, callers=2, drain_s=0.05)
    result = simulated(20_000_000, load, duration_s=0.2)
    # 13 each: at 0 and at 0.2 ms, then every 20 ms until 240
    assert result.log.started_ns.max() == 240_200_000
    assert (result.summary.completed_calls, result.summary.unfinished_calls) == (26, 974)


def test_without_a_drain_time_calls_that_begin_when_due_are_all_made():
    result = simulated(1_000_000, il.OpenLoop.constant(20, drain_s=0), calls=5)
    assert (result.summary.completed_calls, result.summary.unfinished_calls) == (5, 0)


@pytest.mark.parametrize("executor", BOTH)
def test_without_a_drain_time_the_last_call_has_the_time_to_the_one_after_it(executor):
    # an hour of it; it takes a few looks at the run, each of which might give it up
    load = il.OpenLoop.replay([0.0, 0.05, 3600.0], drain_s=0)
    model = for_executor(models.asking(lambda _: time.sleep(0.2)), executor)
    result = il.run(model, [X], load=load, calls=2, warmup_calls=0, executor=executor)
    assert (result.summary.completed_calls, result.summary.unfinished_calls) == (2, 0)


@pytest.mark.parametrize("executor", BOTH)
def test_a_call_that_outlasts_the_drain_limit_is_given_up(executor):
    # the calls behind the one that hangs queue, and none of them is ever begun
    inputs = [torch.zeros(1)] * 20 + [torch.ones(1)]
    before = int(np.flatnonzero(input_order(21, 21, seed=6)[np.arange(21)] == 20)[0])
    assert 0 < before < 20
    over = threading.Event()
    model = models.asking(lambda x: float(x) and over.wait(PATIENCE_S))
    try:
        result = il.run(
            for_executor(model, executor),
            inputs,
            load=il.OpenLoop.constant(100, drain_s=1.0),
            calls=21,
            warmup_calls=0,
            executor=executor,
            share_inputs=True,
            seed=6,
        )
    finally:
        over.set()
    summary = result.summary
    assert result.status == "complete"
    assert summary.completed_calls == len(result.log) == before
    assert summary.unfinished_calls == 21 - before
    assert {"calls-given-up", "unfinished"} <= {one.code for one in result.warnings}
    # 21 calls are due within 0.2 s, and nothing after 1.2 s is waited for
    assert summary.duration_s >= 1.2


def due_until(summary: il.Summary) -> int:
    """Of 100 calls a second from 0 on, how many were due until the run was stopped."""
    return 1 + int(summary.duration_s * 100)


def test_calls_that_wait_when_a_signal_comes_are_unfinished():
    hang = threading.Event()
    made = iter(range(1000))

    def stalls(x):
        if next(made) == 10:
            hang.wait(PATIENCE_S)

    # the signal comes when calls wait behind the one that hangs, which then returns
    stops = Interrupts(lambda finished, elapsed_s: finished == 10 and elapsed_s > 0.6, hang.set)
    load = il.OpenLoop.constant(100)
    with pytest.raises(il.RunInterrupted) as stop:
        il.run(stalls, [X], load=load, calls=1000, warmup_calls=0, observer=stops)
    summary = stop.value.result.summary
    assert summary.completed_calls == 11
    assert summary.duration_s > 0.6
    assert abs(summary.unfinished_calls - (due_until(summary) - 11)) <= 1
    assert summary.response_ms.count == summary.completed_calls + summary.unfinished_calls
    assert summary.response_ms.p90 is None


def test_calls_that_wait_when_the_target_fails_are_unfinished():
    made = iter(range(1000))

    def fails(x):
        if next(made) == 10:
            time.sleep(0.6)
            raise ValueError("late")

    with pytest.raises(il.CallError) as caught:
        il.run(fails, [X], load=il.OpenLoop.constant(100), calls=1000, warmup_calls=0)
    summary = caught.value.result.summary
    assert summary.completed_calls == 10
    # the call that failed began when 10 others had been due, and took 0.6 s
    assert summary.duration_s > 0.7
    assert abs(summary.unfinished_calls - (due_until(summary) - 11)) <= 1


def test_a_stop_is_not_undone_by_an_end_that_comes_after_it():
    target, inputs = as_target(lambda x: x), as_call_inputs([X])
    options = RunOptions(load=il.OpenLoop.constant(100), calls=1000)
    job = prepared(target, inputs, options, Share(schedules=[options.schedule()]), 0, 1)
    running = ThreadsExecutor().start(job)
    running.stop()
    running.end_at(1000)
    assert running._run.limit_ns == [0]
    assert running.wait_done(PATIENCE_S)
    job.log.close()


def test_an_idle_caller_begins_a_call_when_it_is_due():
    result = simulated(1_000_000, il.OpenLoop.constant(100), calls=60)
    assert np.array_equal(result.log.started_ns, result.log.scheduled_ns)


@pytest.mark.native
def test_an_idle_native_caller_begins_a_call_when_it_is_due():
    model = torch.jit.script(models.NoOp())
    log = il.run(model, [X], load=il.OpenLoop.constant(200), calls=400, executor="native").log
    # one that slept a few ms too long would be late by that whenever it sleeps, not now and then
    slept = 1 + np.flatnonzero(log.scheduled_ns[1:] - log.finished_ns[:-1] > 2_000_000)
    assert min(log.started_ns[slept] - log.scheduled_ns[slept], default=0) < 2_000_000


@pytest.mark.parametrize("executor", BOTH)
def test_a_run_by_precision_ends_early_and_drains_what_is_due(executor, monkeypatch):
    # precise by its own account, at any width: which calls are still due then is the machine's
    monkeypatch.setattr(stopping, "SHARE", 1e9)
    result = il.run(
        for_executor(models.NoOp(), executor),
        [X],
        load=il.OpenLoop.poisson(3000, callers=2),
        precision=1e-6,
        quantile="p50",
        time_limit_s=60.0,
        executor=executor,
    )
    assert len(result.log) < 180_000
    assert result.summary.unfinished_calls == 0
    assert (result.log.finished_ns > 0).all()
    # no real call is so even: the last calls, and what they did, are told with both widths
    (told,) = [one for one in result.warnings if one.code == "not-precise"]
    assert "it was ended because they were (p50 +/- " in told.message
    assert "and the calls still due widened them" in told.message


@pytest.mark.parametrize("executor", BOTH)
def test_the_first_exception_ends_an_open_loop_and_queued_calls_are_unfinished(executor):
    model = for_executor(models.RaisesOnNegative(), executor)
    load = il.OpenLoop.constant(1000, callers=2)
    with pytest.raises(il.CallError) as caught:
        il.run(model, [torch.ones(1), -torch.ones(1)], load=load, calls=1000, executor=executor)
    assert caught.value.result.status == "failed"
    recorded = il.run(
        model,
        [torch.ones(1), -torch.ones(1)],
        load=load,
        calls=200,
        executor=executor,
        on_error="record",
        warmup_calls=0,
    )
    assert recorded.summary.failed_calls == 100


@pytest.mark.parametrize("executor", BOTH)
def test_a_stop_reaches_a_caller_that_waits_for_a_distant_call(executor):
    stops = Interrupts(lambda finished, _: finished == 1)
    load = il.OpenLoop.replay([0.0, 3600.0], callers=3)
    with pytest.raises(il.RunInterrupted) as caught:
        il.run(
            for_executor(models.NoOp(), executor), [X], load=load, executor=executor, observer=stops
        )
    assert not caught.value.abandoned  # it ended by itself
    assert len(caught.value.result.log) == 1


def test_more_calls_than_a_replay_has_are_refused():
    with pytest.raises(il.PlanError, match="the replay has 2"):
        il.run(models.NoOp(), [torch.zeros(1)], load=il.OpenLoop.replay([0, 1]), calls=3)
