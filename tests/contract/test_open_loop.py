"""Open loops on the system's clock, over both executors."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
import torch
from virtual_time import replayed

import inferload as il
import models
from inferload.callers.local.preparing import Share, prepared
from inferload.callers.python.executor import ThreadsExecutor
from inferload.plan.options import RunOptions
from inferload.targets.as_target import as_target
from inferload.targets.inputs.call_input import input_order
from inferload.targets.inputs.given import as_call_inputs

X = torch.zeros(1)
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
def test_a_queue_is_served_as_the_exact_replay_says(executor, callers):
    # one call in 200 takes some 100 ms: those behind it wait, unless another caller is free
    inputs = [torch.tensor([5.0])] * 199 + [torch.tensor([8000.0])]
    load = il.OpenLoop.constant(400, callers=callers)
    with torch.inference_mode():
        result = il.run(
            for_executor(Works(), executor),
            inputs,
            load=load,
            calls=400,
            executor=executor,
            threads_per_call=1,
            seed=3,
        )
    log = result.log
    exact = replayed(log.scheduled_ns, log.service_ns, callers)
    late = log.started_ns - exact
    # what the harness adds piles up only while calls queue; a caller that stands idle while a call
    # is due would be late by the 100 ms of the slow call
    slow = log.service_ns.max()
    assert slow > 20e6
    assert np.quantile(late, 0.9) < 0.25 * slow
    if callers == 1:
        assert log.queue_ns.max() > 0.8 * slow
    else:
        assert np.median(log.queue_ns) < 0.1 * slow
    assert result.summary.lateness_ms.quantile(0.5) < 0.25 * slow / 1e6


@pytest.mark.parametrize("executor", BOTH)
def test_no_caller_of_many_sleeps_through_a_burst(executor):
    # as many calls due at once as there are callers, and only one caller a core watches the clock:
    # the others have to be woken while the first are still in their calls
    callers = 2 * os.cpu_count()
    bursts = np.repeat(np.arange(10) * 0.3, callers)
    with torch.inference_mode():
        result = il.run(
            for_executor(Works(), executor),
            [torch.tensor([4000.0])],
            load=il.OpenLoop.replay(bursts, callers=callers),
            executor=executor,
            threads_per_call=1,
        )
    assert result.summary.completed_calls == len(bursts)
    late, service = result.summary.lateness_ms, result.summary.service_ms
    assert late.quantile(0.9) < 0.25 * service.quantile(0.5)


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
    assert result.log.started_ns.max() <= 0.25e9 + 5e6
    assert "unfinished" in [one.code for one in result.warnings]
    assert f"{summary.unfinished_calls:,} unfinished" in str(result)


@pytest.mark.parametrize("executor", BOTH)
def test_without_a_drain_time_calls_that_begin_when_due_are_all_made(executor):
    load = il.OpenLoop.constant(20, drain_s=0)
    result = il.run(
        for_executor(models.NoOp(), executor), [X], load=load, calls=5, executor=executor
    )
    assert (result.summary.completed_calls, result.summary.unfinished_calls) == (5, 0)


@pytest.mark.parametrize("executor", BOTH)
def test_a_call_that_outlasts_the_drain_limit_is_given_up(executor):
    # the calls behind the slow one queue, and none of them is ever begun
    inputs = [torch.tensor([1.0])] * 20 + [torch.tensor([150_000.0])]
    with torch.inference_mode():
        result = il.run(
            for_executor(Works(), executor),
            inputs,
            load=il.OpenLoop.constant(100, drain_s=0.2),
            calls=21,
            warmup_calls=0,
            executor=executor,
            threads_per_call=1,
            share_inputs=True,
            seed=6,
        )
    summary = result.summary
    assert result.status == "complete"
    assert 0 < summary.completed_calls < 21
    assert summary.completed_calls + summary.unfinished_calls == 21
    assert {"calls-given-up", "unfinished"} <= {one.code for one in result.warnings}
    # 21 calls are due within 0.2 s, and nothing after 0.4 s is waited for
    assert summary.duration_s >= 0.4
    assert summary.response_ms.p50 is None or summary.response_ms.max < 1000


def test_calls_that_wait_when_a_signal_comes_are_unfinished():
    hang = threading.Event()
    made = iter(range(1000))

    def stalls(x):
        if next(made) == 10:
            hang.wait(60)

    def interrupt():
        time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        hang.set()

    threading.Thread(target=interrupt).start()
    with pytest.raises(il.RunInterrupted) as stop:
        il.run(stalls, [X], load=il.OpenLoop.constant(100), calls=1000, warmup_calls=0)
    summary = stop.value.result.summary
    # the signal comes when about 90 calls wait behind the one that hangs
    assert summary.completed_calls == 11
    assert 40 < summary.unfinished_calls < 300
    assert summary.response_ms.count == summary.completed_calls + summary.unfinished_calls
    assert summary.response_ms.p90 is None
    assert summary.duration_s > 0.5


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
    assert 40 < summary.unfinished_calls < 300


def test_a_stop_is_not_undone_by_an_end_that_comes_after_it():
    target, inputs = as_target(lambda x: x), as_call_inputs([X])
    options = RunOptions(load=il.OpenLoop.constant(100), calls=1000)
    job = prepared(target, inputs, options, Share(schedules=[options.schedule()]), 0, 1)
    running = ThreadsExecutor().start(job)
    running.stop()
    running.end_at(1000)
    assert running._run.limit_ns == [0]
    assert running.wait_done(5.0)
    job.log.close()


@pytest.mark.parametrize("executor", BOTH)
def test_an_idle_caller_begins_a_call_when_it_is_due(executor):
    model = for_executor(models.NoOp(), executor)
    result = il.run(model, [X], load=il.OpenLoop.constant(100), calls=60, executor=executor)
    # one that slept a few ms too long would be late by that every time
    assert result.summary.lateness_ms.quantile(0.25) < 2


@pytest.mark.parametrize("executor", BOTH)
def test_a_run_by_precision_ends_early_and_drains_what_is_due(executor):
    load = il.OpenLoop.poisson(3000, callers=2)
    result = il.run(
        for_executor(models.NoOp(), executor),
        [torch.zeros(1)],
        load=load,
        precision=0.5,
        quantile="p50",
        time_limit_s=20.0,
        executor=executor,
    )
    assert len(result.log) < 60_000
    assert result.summary.unfinished_calls == 0
    p50 = result.summary.response_ms.p50
    assert (p50.high - p50.low) / 2 <= 0.5 * p50.value
    assert "not-precise" not in [one.code for one in result.warnings]


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


def test_a_stop_reaches_a_caller_that_waits_for_a_distant_call():
    class Stops:
        def __init__(self):
            self.began = None

        def stage(self, text):
            pass

        def progress(self, finished_calls, elapsed_s):
            if self.began is None:
                self.began = time.monotonic()
                threading.main_thread()
                import signal

                signal.raise_signal(signal.SIGINT)

    for executor in ("threads", "native"):
        model = for_executor(models.NoOp(), executor)
        stops = Stops()
        load = il.OpenLoop.replay([0.0, 3600.0], callers=3)
        with pytest.raises(il.RunInterrupted) as caught:
            il.run(model, [torch.zeros(1)], load=load, executor=executor, observer=stops)
        assert time.monotonic() - stops.began < 30
        assert len(caught.value.result.log) == 1


def test_more_calls_than_a_replay_has_are_refused():
    with pytest.raises(il.PlanError, match="the replay has 2"):
        il.run(models.NoOp(), [torch.zeros(1)], load=il.OpenLoop.replay([0, 1]), calls=3)
