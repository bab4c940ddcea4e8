"""Runs whose callers are in other processes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SIZED

import inferload as il
from inferload.callers.processes.handing import handed, received
from inferload.callers.processes.weights import adopt, weights_of
from inferload.callers.python.thread_state import ThreadState
from inferload.stats import stopping
from inferload.targets.as_target import as_target
from inferload.targets.forms import as_form
from inferload.targets.inputs.given import as_call_inputs
from support import models
from support.gates import end_after_looks

pytestmark = pytest.mark.multiprocess


@pytest.mark.parametrize(
    "any_target",
    [
        "eager",
        pytest.param("script", marks=pytest.mark.native),
        pytest.param("aoti", marks=[pytest.mark.native, pytest.mark.slow]),
    ],
    indirect=True,
)
def test_every_call_is_made_once_and_right_in_any_form(any_target):
    with torch.inference_mode():
        result = il.run(
            any_target,
            SIZED,
            load=il.ClosedLoop(callers=2),
            processes=2,
            calls=3001,
            threads_per_call=1,
            verify=True,
        )
    log = result.log
    assert len(log) == 3001
    assert (result.spec.processes, result.spec.callers, result.spec.isolated) == (2, 4, True)
    assert result.spec.grad_mode == "inference"
    assert set(log.caller) <= {0, 1, 2, 3}
    assert (log.process == log.caller // 2).all()
    assert [one.completed_calls for one in result.processes] == [
        int((log.process == number).sum()) for number in range(2)
    ]
    total = sum(one.throughput_calls_per_s for one in result.processes)
    assert total == pytest.approx(result.summary.throughput_calls_per_s.value)
    assert len({one.pid for one in result.processes}) == 2
    assert result.verification.differing == 0
    assert result.verification.compared > 20


def test_an_open_loop_is_dealt_and_keeps_the_times_that_were_asked_for(tmp_path: Path):
    load = il.OpenLoop.poisson(1500, seed=5)
    result = il.run(models.NoOp(), [SIZED[0]], load=load, processes=2, calls=900, verify=True)
    assert (result.log.scheduled_ns == load.schedule(900, None).times_ns).all()
    for number, part in enumerate(load.schedule(900, None).dealt(2, seed=0)):
        mine = result.log.process == number
        assert (result.log.scheduled_ns[mine] == part.times_ns).all()
    assert result.summary.queue_ms is not None
    result.save(tmp_path / "r.json")
    again = il.load_result(tmp_path / "r.json")
    assert str(again) == str(result)
    assert (again.log.process == result.log.process).all()
    assert again.processes == result.processes
    assert "2 processes x 1 caller (threads)" in str(result)


def test_by_precision_and_by_duration_all_processes_end_together(monkeypatch):
    by_time = il.run(models.NoOp(), [SIZED[0]], processes=2, duration_s=1.0)
    log = by_time.log
    ends = [log.finished_ns[log.process == number].max() for number in range(2)]
    # none before, and no call begins later: a caller may lose its core after a look at the clock
    assert min(ends) >= 1.0e9
    assert np.count_nonzero(log.started_ns > 1.0e9) <= 2
    monkeypatch.setattr(stopping, "SHARE", 1e9)  # precise by its own account, at any width
    precise = il.run(
        models.Sleeps(0.001), [SIZED[0]], processes=2, precision=0.3, quantile="p50",
        time_limit_s=600.0,
    )  # fmt: skip
    assert precise.status == "complete"
    assert set(precise.log.process) == {0, 1}
    assert precise.log.finished_ns.max() < 500e9


def test_settings_of_the_calling_thread_hold_in_every_process():
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        result = il.run(
            models.ExpectsState(grad=False, inference=False, autocast=True),
            [torch.ones(4, 4)],
            processes=2,
            calls=40,
            threads_per_call=1,
        )
    assert (result.spec.grad_mode, result.spec.autocast) == ("no grad", "cpu:bfloat16")
    assert result.summary.completed_calls == 40


def test_an_exception_in_one_process_ends_the_run_of_all():
    inputs = [torch.ones(1), *[torch.ones(1)] * 8, -torch.ones(1)]
    with pytest.raises(il.CallError, match=r"of process \d on input 9") as caught:
        il.run(models.RaisesOnNegative(), inputs, processes=2, duration_s=60, warmup_calls=1)
    error = caught.value
    assert type(error.__cause__) is RuntimeError
    assert error.place.startswith(models.__file__)
    assert error.result.status == "failed"
    assert error.result.summary.duration_s < 50  # of 60


def test_exceptions_are_recorded_over_all_processes():
    inputs = [torch.ones(1), -torch.ones(1)]
    result = il.run(models.RaisesOnNegative(), inputs, processes=2, calls=100, on_error="record")
    assert len(result.log) == 100
    assert result.summary.failed_calls == (result.log.input == 1).sum()
    assert len(result.log.errors) == 1


@pytest.mark.parametrize("form", ["eager", "script", "export"])
def test_weights_are_one_memory_for_all_processes(form, tmp_path: Path):
    given = as_call_inputs([torch.zeros(1, 8)])
    giver = as_form(models.mlp(), form, given)
    state = ThreadState.of_this_thread().portable
    content = handed(giver, given, state, spec=None, scratch=tmp_path)
    _, taker = received(content, None)
    # what the one writes, the other reads
    for module in giver.modules():
        for parameter in module.parameters():
            parameter.data.fill_(0.5)
    x = torch.ones(1, 8)
    assert torch.equal(taker.python_callable()(x), giver.python_callable()(x))
    own = [p for module in taker.modules() for p in module.parameters()]
    assert all(bool((one == 0.5).all()) for one in own)
    assert all(one.is_shared() for one in own)


def test_a_rebuilt_model_takes_over_shared_weights_of_the_same_shape_only():
    giver, taker = as_target(torch.nn.Linear(4, 4)), as_target(torch.nn.Linear(4, 4))
    other = as_target(torch.nn.Linear(4, 3))
    weights = weights_of(giver)
    assert adopt(taker, weights) == 2
    assert torch.equal(taker.module.weight, giver.module.weight)
    assert adopt(other, weights) == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"processes": 0}, "processes is 0: it must be a whole number from 1 to 1,024"),
        ({"processes": 2, "calls": 1}, "1 calls are fewer than 2 processes"),
        ({"processes": 2, "trace": "t.json"}, "a trace is of one process, and 2 were asked for"),
        ({"timeout_s": -1}, "timeout_s is -1"),
    ],
)
def test_options_that_cannot_be_run_are_refused(options, sentence):
    with pytest.raises(il.PlanError, match=sentence):
        il.run(models.NoOp(), [SIZED[0]], **options)


def test_a_long_run_is_counted_process_by_process(monkeypatch, tmp_path: Path):
    monkeypatch.setattr("inferload.log.ring.KEPT_CALLS", 8192)
    monkeypatch.setattr("inferload.log.tally.SAMPLED_CALLS", 3000)
    monkeypatch.setattr("inferload.log.merge.SAMPLED_CALLS", 3000)
    result = il.run(models.NoOp(), [SIZED[0]], processes=2, calls=60_001)
    assert result.log.tally is not None
    assert result.summary.completed_calls == result.log.calls_made == 60_001
    assert 1000 < len(result.log) < 3500
    assert sum(one.completed_calls for one in result.processes) == 60_001
    result.save(tmp_path / "r.json")
    assert str(il.load_result(tmp_path / "r.json")) == str(result)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two processes need two cores")
@pytest.mark.parametrize("executor", ["threads", pytest.param("native", marks=pytest.mark.native)])
def test_pinned_callers_run_on_cores_of_their_own_and_say_so(executor):
    model = models.mlp() if executor == "threads" else torch.jit.script(models.mlp())
    options = {"calls": 200, "pin": "cores", "executor": executor}
    two = il.run(model, [SIZED[0]], processes=2, **options)
    (first,), (second,) = (one.cpus for one in two.processes)
    assert first
    assert second
    assert not set(first) & set(second)
    assert set(first) | set(second) <= os.sched_getaffinity(0)
    # read back: as many intra-op threads as cores
    assert [one.threads for one in two.processes] == [(len(first),), (len(second),)]
    assert two.spec.threads_per_call == len(first)
    assert "■" in str(two)
    before = os.sched_getaffinity(0)
    here = il.run(model, [SIZED[0]], load=il.ClosedLoop(callers=2), **options)
    assert not set(here.processes[0].cpus[0]) & set(here.processes[0].cpus[1])
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize("processes", [None, 1])
def test_the_peak_is_that_of_the_whole_life_of_a_process(processes):
    x = torch.zeros(1)
    result = il.run(models.Spikes(200 * 2**20), [x], processes=processes, calls=20, warmup_calls=2)
    memory = result.processes[0].memory
    assert memory.peak_rss_bytes > max(memory.rss_bytes) + 150 * 2**20


def test_memory_is_reported_for_every_process_and_leaks_are_warned_of(monkeypatch):
    with monkeypatch.context() as patch:
        until_looked = end_after_looks(25, patch)
        result = il.run(models.Leaks(), [torch.zeros(2000)], processes=2, **until_looked)
    assert "memory-grows" in [one.code for one in result.warnings]
    for one in result.processes:
        # each call keeps 8,000 bytes, and what holds them
        assert 7.5e6 < one.memory.growth_bytes_per_1000_calls < 11e6
        assert one.memory.peak_rss_bytes >= max(one.memory.rss_bytes)
        assert one.memory.peak_pss_bytes < one.memory.peak_rss_bytes
    assert result.set_up.nursery_pss_bytes > 0
    steady = il.run(models.NoOp(), [SIZED[0]], duration_s=2.5)
    assert "memory-grows" not in [one.code for one in steady.warnings]
