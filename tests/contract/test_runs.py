"""One suite over every executor and every form of a target."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from conftest import SIZED

import inferload as il
from inferload.targets.inputs.call_input import input_order
from support import models
from support.gates import PATIENCE_S, end_after

EVERY = [
    pytest.param(executor, form, marks=[pytest.mark.native] * (executor == "native"))
    for executor, form in [
        ("threads", "callable"),
        ("threads", "eager"),
        ("threads", "compile"),
        ("threads", "script"),
        ("threads", "export"),
        ("threads", "aoti"),
        ("native", "script"),
        ("native", "aoti"),
    ]
]
BOTH = ["threads", pytest.param("native", marks=pytest.mark.native)]


@pytest.mark.parametrize(("executor", "any_target"), EVERY, indirect=["any_target"])
@pytest.mark.parametrize("callers", [1, 3])
def test_every_call_is_logged_once_with_the_input_its_number_draws(executor, any_target, callers):
    with torch.no_grad():
        result = il.run(
            any_target,
            SIZED,
            load=il.ClosedLoop(callers=callers),
            calls=1001,
            executor=executor,
            warmup_calls=3,
            seed=7,
        )
    log = result.log
    assert result.spec.executor == executor
    assert len(log) == result.summary.completed_calls == 1001
    order = input_order(len(SIZED), 1001, seed=7)
    assert np.array_equal(log.input, order[np.arange(1001) % len(order)])
    assert set(log.caller) <= set(range(callers))
    assert (log.scheduled_ns == log.started_ns).all()
    assert (log.started_ns >= 0).all()
    assert (log.finished_ns >= log.started_ns).all()
    for caller in set(log.caller):
        mine = log.caller == caller
        assert (log.started_ns[mine][1:] >= log.finished_ns[mine][:-1]).all()
    assert result.set_up.first_call_ms > 0


@pytest.mark.parametrize("executor", BOTH)
def test_a_run_by_duration_starts_no_call_after_it_but_finishes_those_in_flight(executor):
    model = models.for_executor(models.NoOp(), executor)
    result = il.run(
        model, [torch.zeros(1)], duration_s=0.2, load=il.ClosedLoop(callers=2), executor=executor
    )
    log = result.log
    assert result.spec.calls is None
    assert set(log.caller) <= {0, 1}
    # no caller ends before, and none starts a call later: it may lose the core after it looked
    for caller in set(log.caller):
        assert log.finished_ns[log.caller == caller].max() >= 0.2e9
    assert np.count_nonzero(log.started_ns > 0.2e9) <= 2


@pytest.mark.parametrize("executor", BOTH)
def test_all_callers_call_at_once(executor):
    # none of three calls returns before all are made
    together = threading.Barrier(3)
    model = models.for_executor(models.asking(lambda _: together.wait(PATIENCE_S)), executor)
    load = il.ClosedLoop(callers=3)
    log = il.run(model, [torch.zeros(1)], load=load, calls=3, warmup_calls=0, executor=executor).log
    assert sorted(log.caller) == [0, 1, 2]
    assert log.started_ns.max() <= log.finished_ns.min()


def test_a_run_by_duration_of_slow_calls_takes_inputs_in_their_order():
    result = il.run(models.Sleeps(0.003), SIZED, duration_s=0.1, warmup_calls=0)
    order = input_order(len(SIZED), None, seed=0)
    assert np.array_equal(result.log.input, order[: len(result.log)])


@pytest.mark.native
def test_a_run_of_open_end_outgrows_the_room_first_set_aside(monkeypatch: pytest.MonkeyPatch):
    options = end_after(2049, monkeypatch)
    for place in (
        "inferload.log.ring",
        "inferload.callers.native.executor",
        "inferload.callers.python.run",
    ):
        monkeypatch.setattr(f"{place}.GROWTH_ROWS", 1024)
    for executor in ("threads", "native"):
        model = models.for_executor(models.NoOp(), executor)
        result = il.run(model, [torch.zeros(1)], executor=executor, **options)
        assert len(result.log) > 2048
        assert result.set_up.log_bytes > 0


@pytest.mark.parametrize("executor", BOTH)
def test_every_caller_owns_its_inputs(executor):
    model = models.for_executor(models.WritesIntoItsInput(), executor)
    x = torch.zeros(10_000)
    result = il.run(
        model, [x], load=il.ClosedLoop(callers=4), calls=2000, executor=executor, warmup_calls=0
    )
    assert result.summary.completed_calls == 2000
    assert float(x.sum()) == 0


def test_callers_share_their_inputs_when_asked_to():
    seen = set()
    x = torch.zeros(1)
    il.run(lambda y: seen.add(y.data_ptr()), [x], calls=20, share_inputs=True)
    assert seen == {x.data_ptr()}


def test_warm_up_calls_are_made_by_every_caller_and_not_logged():
    counts = models.Counts()
    result = il.run(
        counts, [torch.zeros(1)], load=il.ClosedLoop(callers=3), calls=50, warmup_calls=4
    )
    assert counts.calls == 50 + 3 * 4
    assert len(counts.threads) == 3
    assert len(result.log) == 50


@pytest.mark.parametrize("executor", BOTH)
def test_arguments_of_every_kind_reach_the_model(executor):
    model = models.for_executor(models.Affine(), executor)
    x, shift = torch.ones(2), torch.ones(2)
    result = il.run(
        model,
        [
            (x, {"shift": shift}),
            il.CallInput((x,), {"pair": {"shift": shift}, "scale": 3}),
            {"x": x, "pair": {"shift": shift}, "scale": 2},
        ],
        calls=30,
        executor=executor,
    )
    assert result.summary.completed_calls == 30


@pytest.mark.slow
def test_a_compiled_module_is_compiled_before_callers_start_and_not_again():
    torch._dynamo.reset()
    model = torch.compile(models.mlp())
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        result = il.run(model, SIZED, load=il.ClosedLoop(callers=3), calls=300)
        codes = [one.code for one in result.warnings]
        assert result.spec.form == "compile"
        assert "recompiled" not in codes
        # the callers' own warm-up compiled nothing either: their state is that of this thread
        graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        il.run(model, SIZED, load=il.ClosedLoop(callers=3), calls=30)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs


@pytest.mark.slow
def test_a_recompilation_under_load_is_a_warning():
    torch._dynamo.reset()
    model = torch.compile(lambda x, n: x * n, dynamic=False)
    state = {"calls": 0}

    def drifting(x):
        state["calls"] += 1
        return model(x, state["calls"])

    result = il.run(drifting, [torch.zeros(2)], calls=6, warmup_calls=1)
    assert "recompiled" in [one.code for one in result.warnings]


@pytest.mark.native
def test_auto_takes_native_callers_where_the_target_allows():
    assert il.run(torch.jit.script(models.mlp()), SIZED, calls=5).spec.executor == "native"
    assert il.run(models.mlp(), SIZED, calls=5).spec.executor == "threads"
    with pytest.raises(il.PlanError, match="form 'eager'"):
        il.run(models.mlp(), SIZED, calls=5, executor="native")


@pytest.mark.slow
def test_an_aoti_package_gets_a_runner_for_each_caller_and_an_object_cannot(package):
    from inferload.targets.kinds.exported import AotiTarget

    target = AotiTarget(package)
    il.run(target, SIZED, load=il.ClosedLoop(callers=3), calls=9)
    assert target.runners == 3
    loaded = torch._inductor.aoti_load_package(str(package))
    result = il.run(loaded, SIZED, load=il.ClosedLoop(callers=3), calls=9)
    assert "aoti-runners" in [one.code for one in result.warnings]


def test_a_deviating_count_of_callers_and_calls_is_still_exact():
    result = il.run(models.NoOp(), [torch.zeros(1)], load=il.ClosedLoop(callers=7), calls=5)
    assert len(result.log) == 5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"calls": 0}, "calls is 0"),
        ({"calls": 2.5}, r"calls is 2\.5"),
        ({"calls": 10, "duration_s": 1}, "both given"),
        ({"duration_s": 0}, "duration_s is 0"),
        ({"duration_s": float("inf")}, "duration_s is inf"),
        ({"warmup_calls": -1}, "warmup_calls is -1"),
        ({"threads_per_call": 0}, "threads_per_call is 0"),
        ({"executor": "gpu"}, "executor 'gpu' is unknown"),
        ({"on_error": "ignore"}, "on_error 'ignore' is unknown"),
        ({"load": 4}, "load is a int"),
        ({"verify": "no"}, "verify is 'no': it must be True or False"),
        ({"executor": None}, "executor is None"),
        ({"seed": -1}, "seed is -1"),
        ({"precision": 0}, "precision is 0"),
        ({"precision": 2.0}, "precision is 2"),
        ({"time_limit_s": 5.0}, "time_limit_s=5 goes with precision"),
        ({"quantile": "p42"}, "quantile 'p42' is unknown"),
        ({"warmup": "much"}, "warmup 'much' is unknown"),
        ({"threads_per_call": 10**12}, "from 1 to 4,096"),
    ],
)
def test_a_wrong_option_is_refused_with_its_value(options, words):
    with pytest.raises(il.PlanError, match=words):
        il.run(models.NoOp(), [torch.zeros(1)], **options)


def test_no_callers_are_refused():
    with pytest.raises(il.PlanError, match="callers is 0"):
        il.ClosedLoop(callers=0)


def test_more_threads_than_cores_training_mode_and_gradients_are_warnings():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout())
    result = il.run(
        model, [torch.zeros(1, 2)], load=il.ClosedLoop(callers=64), calls=64, threads_per_call=2
    )
    codes = {one.code for one in result.warnings}
    assert {"oversubscribed", "training-mode", "grad-enabled"} <= codes
    with torch.inference_mode():
        quiet = il.run(model.eval(), [torch.zeros(1, 2)], calls=5, threads_per_call=1)
    assert (
        not codes
        & {"oversubscribed", "training-mode", "grad-enabled"}
        & {one.code for one in quiet.warnings}
    )


def test_progress_is_told_to_the_observer():
    told, made = threading.Event(), iter(range(300))

    class Listens:
        def __init__(self):
            self.stages, self.counts = [], []

        def stage(self, text):
            self.stages.append(text)

        def progress(self, finished_calls, elapsed_s):
            self.counts.append(finished_calls)
            if finished_calls == 299:
                told.set()

    def model(_):
        if next(made) == 299:
            assert told.wait(PATIENCE_S)

    listener = Listens()
    il.run(model, [torch.zeros(1)], calls=300, warmup_calls=0, observer=listener)
    assert listener.stages[0].startswith("preparing")
    assert listener.counts == sorted(listener.counts)
    assert listener.counts[-1] in {299, 300}
