"""Calls on a device, on a simulated one: streams, completion, errors, refusals."""

from __future__ import annotations

import itertools
import time
from itertools import combinations
from unittest import mock

import numpy as np
import pytest
import torch

import inferload as il
from inferload.log.calls import CallLog
from support.on_device import EXECUTORS, MODEL, busy, run

pytestmark = pytest.mark.native


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("streams", ["per-caller", "shared"])
@pytest.mark.parametrize("completion", ["event", "sync"])
def test_a_call_is_finished_when_its_work_is(sim, executor: str, streams: str, completion: str):
    result = run(executor, streams=streams, completion=completion, verify=True)
    assert result.log.service_ns.min() >= 5_000_000
    assert result.verification.compared
    assert not result.verification.differing
    spec = result.spec
    assert (spec.devices, spec.streams, spec.completion) == (("sim:0",), streams, completion)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_caller_makes_no_call_after_the_one_that_ends_after_the_run(sim, executor: str):
    log = run(executor, calls=None, duration_s=0.3).log
    for caller in range(4):
        assert (log.finished_ns[log.caller == caller] > 300_000_000).sum() <= 1


@pytest.mark.parametrize("executor", EXECUTORS)
def test_nothing_is_left_on_the_device_when_a_run_returns(sim, executor: str):
    from support import simulated_models

    model = simulated_models.Busy(300_000_000).eval()
    model = torch.jit.script(model) if executor == "native" else model
    options = {"load": il.ClosedLoop(callers=2), "calls": 2, "warmup_calls": 0}
    with torch.no_grad():
        il.run(model, [torch.ones(1)], device="sim:0", executor=executor, **options)
    # all of its streams, those that new ones are drawn from; a call that is left would take 0.3 s
    assert all(torch.Stream("sim:0").query() for _ in range(64))


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_call_that_works_on_streams_of_its_own_is_finished_when_they_are(sim, executor: str):
    from support import simulated_models

    model = simulated_models.Aside(8_000_000)
    with torch.no_grad():
        result = il.run(
            model, [torch.ones(1, device="sim:0")], load=il.ClosedLoop(callers=2), calls=20
        )
    assert result.log.service_ns.min() >= 8_000_000
    (warning,) = [one for one in result.warnings if one.code == "other-streams"]
    assert "waits for all work on the device" in warning.message
    assert "other-streams" not in [one.code for one in run(executor).warnings]


def test_a_thread_that_lost_its_core_has_found_no_work_on_other_streams(sim, monkeypatch):
    asked = itertools.count(1)
    lost_s = 0.0

    def perf_counter() -> float:
        nonlocal lost_s
        lost_s += next(asked) == 8  # the last of four readings of the second look
        return time.perf_counter() + lost_s

    own = mock.Mock(perf_counter=perf_counter)
    monkeypatch.setattr("inferload.callers.local.devices.time", own)
    assert "other-streams" not in [one.code for one in run("threads").warnings]
    assert next(asked) > 12  # it has looked again


def closest_ms(log: CallLog) -> float:
    """In how short a time two callers each began and ended a call."""
    times = [(log.started_ns[log.caller == n], log.finished_ns[log.caller == n]) for n in range(4)]
    return (
        min(
            (
                float(np.min(np.maximum.outer(ends, others) - np.minimum.outer(starts, begins)))
                for (starts, ends), (begins, others) in combinations(times, 2)
                if len(starts) and len(begins)
            ),
            default=np.inf,
        )
        / 1e6
    )


@pytest.mark.parametrize("executor", EXECUTORS)
def test_callers_have_streams_of_their_own_unless_they_are_to_share_one(sim, executor: str):
    # one call's work is 5 ms, and on one stream two need ten
    assert closest_ms(run(executor, calls=120).log) < 10
    result = run(executor, streams="shared")
    assert closest_ms(result.log) >= 10
    assert "one-stream" in [warning.code for warning in result.warnings]


def test_the_shared_stream_is_the_one_that_is_current_where_the_run_is_started(sim):
    found = []

    class Looks(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found.append(torch.accelerator.current_stream(0).stream_id)
            return x

    x, stream = torch.ones(1, device="sim:0"), torch.Stream("sim:0")
    options = {"load": il.ClosedLoop(callers=3), "calls": 60, "warmup_calls": 1}
    # of what was found the last counts: calls that look at the model come first
    with torch.no_grad(), torch.sim.stream(stream):
        il.run(Looks(), [x], streams="shared", **options)
        assert set(found[-20:]) == {stream.stream_id}
        found.clear()
        il.run(Looks(), [x], **options)
        assert len(set(found[-63:])) == 3  # with the call that each makes to warm up
        assert stream.stream_id not in found


def test_a_model_that_leaves_another_stream_behind_is_called_on_its_caller_s_all_the_same(sim):
    found, elsewhere = [], torch.Stream("sim:0")

    class Leaves(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found.append(torch.accelerator.current_stream(0).stream_id)
            torch.accelerator.set_stream(elsewhere)
            return x

    with torch.no_grad():
        il.run(Leaves(), [torch.ones(1, device="sim:0")], calls=20)
    assert len(set(found[-20:])) == 1
    assert elsewhere.stream_id not in found[-20:]


class Cache:
    def __init__(self) -> None:
        self.layers = [torch.ones(2, 4)]


def test_tensors_in_objects_of_any_class_are_put_on_the_device(sim):
    cache, seen = Cache(), set()

    def model(x, cache):
        seen.add(cache.layers[0].device.type)
        return x

    il.run(model, [{"x": torch.ones(2, 4), "cache": cache}], calls=10, device="sim")
    assert seen == {"sim"}
    assert cache.layers[0].device.type == "cpu"


def test_the_inputs_of_a_model_on_a_device_may_come_from_the_host(sim):
    model = busy("threads").to("sim:1")
    with torch.no_grad():
        result = il.run(model, [torch.ones(2, 4)], calls=20, transfers=True)
    assert result.spec.devices == ("sim:1",)
    assert "copy_in_ns" in result.log.stages


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_call_that_raises_has_no_stages_and_the_others_have(sim, executor: str):
    from support import simulated_models

    model = simulated_models.Hog().eval()
    model = torch.jit.script(model) if executor == "native" else model
    sim.set_capacity(64 << 20)
    x = torch.ones(4, dtype=torch.uint8)
    inputs = [(x, 16), (x, 128 << 20)]
    options = {"load": il.ClosedLoop(callers=3), "calls": 100, "device": "sim:0", "seed": 1}
    with torch.no_grad():
        result = il.run(model, inputs, on_error="record", executor=executor, **options)
        failed = ~result.log.completed
        assert 0 < failed.sum() < 100
        assert (result.log.input[failed] == 1).all()
        assert (result.log.stages["issue_ns"][failed] == 0).all()
        assert (result.log.stages["issue_ns"][~failed] > 0).all()
        (warning,) = [one for one in result.warnings if one.code == "failed-calls"]
        assert "out of memory: 128.00 MiB were asked for, and GPU 0 has" in warning.message
        with pytest.raises(
            il.CallError, match=r"128\.00 MiB were asked for, and GPU 0 has .* free"
        ):
            il.run(model, inputs, executor=executor, **options)


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("on_error", ["stop", "record"])
def test_a_device_that_fails_ends_the_run_and_names_the_calls_it_may_have_been(
    sim, executor: str, on_error: str
):
    from support import simulated_models

    model = simulated_models.FailsOnNegative().eval()
    model = torch.jit.script(model) if executor == "native" else model
    good, bad = (torch.ones(4), False), (torch.ones(4), True)
    with torch.no_grad(), pytest.raises(il.CallError) as raised:
        il.run(
            model,
            [good] * 9 + [bad],
            load=il.ClosedLoop(callers=3),
            calls=400,
            warmup_calls=0,
            device="sim:0",
            executor=executor,
            on_error=on_error,
        )
    text, result = str(raised.value), raised.value.result
    assert "SIM error: device-side assert triggered" in text
    assert "The device is lost to this process" in text
    assert "on input 9" in text  # the culprit, as the first or among the suspects
    assert result.status == "failed"
    assert result.summary.completed_calls == int(result.log.completed.sum())
    assert len(result.log) < 400


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ("sim:7", r"there is no device sim:7: this machine has sim:0, sim:1"),
        ("nonsense", "device 'nonsense' is unknown to torch"),
        ("cuda:1", "there is no device cuda:1"),
    ],
)
def test_a_device_that_is_not_there_is_refused(sim, device: str, says: str):
    if device.startswith("cuda") and torch.cuda.device_count() > 1:
        pytest.skip("this machine has a second CUDA device")
    with pytest.raises(il.PlanError, match=says):
        run("threads", device=device)


def test_inputs_on_another_device_than_the_model_are_refused_unless_it_moves_them(sim):
    from support import simulated_models

    with torch.no_grad():
        with pytest.raises(
            il.PlanError, match=r"Busy is on sim:1 and input 0 .* on cpu, .*--device"
        ):
            il.run(busy("threads").to("sim:1"), [torch.ones(2, 4)], calls=10)
        moves = simulated_models.MovesItsInput().to("sim:1")
        assert il.run(moves, [torch.ones(2, 4)], calls=10).spec.devices == ("sim:1",)


def test_transfers_need_a_device():
    with pytest.raises(il.PlanError, match="are on the CPU: give a device"):
        il.run(torch.nn.Identity(), [torch.ones(1)], calls=1, transfers=True)


def test_streams_and_completion_need_a_device():
    for asked in ({"streams": "shared"}, {"completion": "event"}):
        with pytest.raises(il.PlanError, match="are on the CPU: give a device"):
            il.run(torch.nn.Identity(), [torch.ones(1)], calls=1, **asked)


def test_a_function_is_on_the_device_of_its_output(sim):
    asked = {"load": il.ClosedLoop(), "calls": 5}
    on_cpu = il.run(lambda x: x + 1, [torch.ones(1)], **asked)
    there = il.run(lambda x: x.to("sim:1"), [torch.ones(1)], **asked)
    assert (on_cpu.spec.devices, there.spec.devices) == ((), ("sim:1",))


def test_a_device_may_be_given_as_an_object(sim):
    assert run("threads", calls=4, device=torch.device("sim:1")).spec.devices == ("sim:1",)
    with pytest.raises(il.PlanError, match="device is 7: give a name"):
        run("threads", calls=4, device=7)


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("warmup_calls", [0, 2])
def test_what_a_call_that_raised_has_left_is_no_other_call_s_time(sim, executor, warmup_calls):
    from support import simulated_models

    model = simulated_models.RaisesOnNegative().eval()
    model = torch.jit.script(model) if executor == "native" else model
    x = torch.ones(4)
    with torch.no_grad():
        result = il.run(
            model,
            [(x, False), (x, True)],
            calls=20,
            warmup_calls=warmup_calls,
            device="sim:0",
            executor=executor,
            on_error="record",
        )
    log = result.log
    assert (log.error >= 0).sum() == 10
    assert (log.input[log.error >= 0] == 1).all()
    if executor == "threads":
        assert f'{MODEL}", line 50, in forward' in log.errors[0].traceback
    # a call takes 1 ms, and what is left 60: if it were in the next one it would be in each of them
    after = np.flatnonzero(log.error[:-1] >= 0) + 1
    assert log.service_ns[after[log.error[after] < 0]].min() < 50_000_000


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"streams": "many"}, "streams 'many' is unknown: choose per-caller or shared"),
        ({"completion": "poll"}, "completion 'poll' is unknown: choose event or sync"),
        ({"device": ["sim:0", "sim"]}, "name one twice"),
        ({"device": ["sim:0", ""]}, "name an empty one"),
        ({"transfers": True, "share_inputs": True}, "leave one of them out"),
        ({"device": ["sim:0", "sim:1"], "processes": 1}, "1 processes are fewer than 2 devices"),
    ],
)
def test_what_cannot_be_asked_of_devices_is_refused(options: dict, says: str):
    with pytest.raises(il.PlanError, match=says):
        il.run(torch.nn.Identity(), [torch.ones(1)], calls=1, **options)


def test_more_callers_than_streams_are_told_so(sim):
    result = run("native", load=il.ClosedLoop(callers=33), calls=66, warmup_calls=1)
    assert "few-streams" in [warning.code for warning in result.warnings]


def test_points_of_a_sweep_are_called_on_the_device_by_slices_too(sim):
    from support import simulated_models

    model = simulated_models.Busy().eval()
    with torch.no_grad():
        study = il.sweep(
            model, [torch.ones(1)], callers=[1, 2], duration_s=0.2, blocks=1, device="sim:0"
        )
    assert study.slice_s is not None
    assert [one.spec.devices for one in study.runs] == [("sim:0",)] * 2
    assert all(one.summary.stages.device_ms.mean > 1 for one in study.runs)
