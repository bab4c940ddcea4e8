"""Calls on a device, on a simulated one: streams, completion, stages, transfers, errors."""

from __future__ import annotations

import itertools
import json
import time
from itertools import combinations
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

import inferload as il
from inferload.callers.local import floor
from inferload.callers.local import preparing as plan
from inferload.callers.python import executor as threads
from inferload.errors import NativeBuildError
from inferload.log.calls import CallLog
from support.program import inferload

pytestmark = pytest.mark.native

SUPPORT = Path(__file__).parents[1] / "support"
MODEL = SUPPORT / "simulated_models.py"
EXECUTORS = ("threads", "native")


@pytest.fixture
def sim():
    from support import simulated_models

    found = simulated_models.SIM
    yield found
    found.clear_error()
    found.set_exclusive(False)
    found.set_capacity(0)
    found.set_copy_rate(0)
    for device in range(2):
        torch.sim.synchronize(device)


def busy(executor: str) -> torch.nn.Module:
    from support import simulated_models

    model = simulated_models.Busy().eval()
    return torch.jit.script(model) if executor == "native" else model


def run(executor: str, **options) -> il.RunResult:
    asked = {
        "load": il.ClosedLoop(callers=4),
        "calls": 60,
        "warmup_calls": 2,
        "device": "sim:0",
        "executor": executor,
    } | options
    with torch.no_grad():
        return il.run(busy(executor), [torch.ones(2, 4), torch.zeros(2, 4)], **asked)


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


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("load", ["closed", "open"])
def test_stages_say_where_the_service_time_went(sim, executor: str, load: str):
    closed = il.ClosedLoop(callers=4)
    opened = il.OpenLoop.constant(rate_per_s=300, callers=4)
    result = run(executor, load=closed if load == "closed" else opened)
    log, stages = result.log, result.summary.stages
    assert set(log.stages) == {"issue_ns", "device_ns"}
    assert np.array_equal(log.stages["issue_ns"] + log.wait_ns, log.service_ns)
    assert (log.stages["issue_ns"] > 0).all()
    timed = log.stages["device_ns"] != -1  # of Python callers a sample
    assert (log.stages["device_ns"][timed] >= 4_999_000).all()  # its clock counts in ms, as a float
    assert (log.stages["device_ns"] <= log.service_ns).all()
    assert timed.all() if executor == "native" else timed.any()
    # of a call whose caller lost its core while it gave work to the device it is more
    assert stages.device_ms.min == pytest.approx(5, abs=0.1)
    assert stages.copy_in_ms is None
    assert "bound by the device" in str(result)


def quick(calls: int, **options) -> il.RunResult:
    """Calls that keep the device for 0.1 ms, by Python callers; eight inputs."""
    from support import simulated_models

    asked = {"load": il.ClosedLoop(), "executor": "threads", "device": "sim:0"} | options
    given = [torch.full((1,), float(number)) for number in range(8)]
    with torch.no_grad():
        return il.run(simulated_models.Busy(100_000).eval(), given, calls=calls, **asked)


@pytest.fixture(params=["compiled", "interpreted"])
def devices_of_callers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How Python callers use the device: by the extension, or where there is no compiler."""
    if request.param == "interpreted":

        def none(_: object = None) -> None:
            raise NativeBuildError("no C++ compiler")

        monkeypatch.setattr(plan, "native_extension", none)
    return request.param


def test_of_fast_calls_a_seeded_sample_is_timed_on_the_device(
    sim, devices_of_callers: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(threads, "timed_one_in", lambda _: 4)
    result, again, other = (quick(400, seed=seed) for seed in (1, 1, 2))
    log, stages = result.log, result.summary.stages
    timed = log.stages["device_ns"] != -1
    assert 60 < timed.sum() < 140  # 100 expected, 5 standard deviations
    assert (log.stages["device_ns"][timed] >= 99_000).all()
    assert np.array_equal(log.stages["issue_ns"] + log.wait_ns, log.service_ns)  # those of all
    assert set(log.input[timed]) == set(range(8))  # it does not keep step with the inputs
    assert np.array_equal(timed, again.log.stages["device_ns"] != -1)
    assert not np.array_equal(timed, other.log.stages["device_ns"] != -1)
    assert (stages.device_ms.count, stages.wait_ms.count) == (timed.sum(), 400)
    assert stages.timed_response_ms == pytest.approx(log.response_ns[timed].mean() / 1e6)
    assert f"on the device: {timed.sum()} calls of 400, drawn at random" in str(result)


def test_with_transfers_copies_and_calls_are_timed_of_the_same_calls(
    sim, devices_of_callers: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(threads, "timed_one_in", lambda _: 2)
    sim.set_copy_rate(4 / 0.001)
    stages = quick(100, transfers=True).log.stages
    timed = stages["device_ns"] != -1
    assert 20 < timed.sum() < 80
    for name in ("copy_in_ns", "copy_out_ns"):
        assert (stages[name][timed] >= 999_000).all()
        assert (stages[name][~timed] == -1).all()


def test_without_a_compiler_calls_are_finished_when_their_work_is_and_a_warning_says_so(
    sim, monkeypatch: pytest.MonkeyPatch
):
    def none(_: object = None) -> None:
        raise NativeBuildError("no C++ compiler: 'c++' is not on the PATH")

    assert "native-unavailable" not in [one.code for one in run("threads").warnings]
    monkeypatch.setattr(plan, "native_extension", none)
    result = run("threads", completion="event", verify=True)
    assert result.log.service_ns.min() >= 5_000_000
    on_device = result.log.stages["device_ns"]
    assert (on_device[on_device != -1] >= 4_999_000).all()
    assert (on_device != -1).any()
    assert not result.verification.differing
    (warning,) = [one for one in result.warnings if one.code == "native-unavailable"]
    assert "no C++ compiler" in warning.message


@pytest.mark.parametrize("executor", EXECUTORS)
def test_the_harness_is_measured_on_the_device_by_as_many_callers(
    sim, executor: str, monkeypatch: pytest.MonkeyPatch
):
    started, ran = [], floor._ran

    def noted(by: object, job: object) -> object:
        started.append((by.name, job))
        return ran(by, job)

    monkeypatch.setattr(floor, "_ran", noted)
    result = run(executor, load=il.ClosedLoop(callers=3), streams="shared", completion="event")
    assert {(name, job.callers) for name, job in started} == {(executor, 3)}
    (work,) = {
        (job.device_work.devices, job.device_work.own_streams, job.device_work.by_event)
        for _, job in started
    }
    assert work == ((torch.device("sim:0"),), False, True)
    set_up = result.set_up
    assert set_up.floor_ms > 0 < set_up.floor_by_hand_ms
    assert set_up.harness_ms == max(set_up.floor_ms - set_up.floor_by_hand_ms, 0.0)
    assert " by hand " in str(result)
    on_cpu = il.run(torch.nn.Identity(), [torch.ones(1)], calls=5).set_up
    assert on_cpu.floor_by_hand_ms is None
    assert on_cpu.harness_ms == on_cpu.floor_ms


def test_what_a_device_says_when_it_fails_is_what_torch_raises_in_python(
    sim, devices_of_callers: str
):
    from support import simulated_models

    with torch.no_grad(), pytest.raises(il.CallError) as raised:
        il.run(
            simulated_models.FailsOnNegative().eval(),
            [(torch.ones(4), True)],
            calls=4,
            warmup_calls=0,
            device="sim:0",
        )
    with pytest.raises(RuntimeError) as torchs:
        torch.accelerator.current_stream(0).synchronize()
    cause = raised.value.__cause__
    assert (type(cause), str(cause)) == (torchs.type, str(torchs.value))


@pytest.mark.parametrize("executor", EXECUTORS)
def test_transfers_copy_inputs_and_outputs_in_each_call(sim, executor: str):
    sim.set_copy_rate(32 / 0.002)  # the 32 bytes of an input in 2 ms
    result = run(executor, transfers=True, calls=40)
    stages = result.log.stages
    assert (stages["copy_in_ns"] >= 1_999_000).all()
    assert (stages["copy_out_ns"] >= 1_999_000).all()
    assert (stages["device_ns"] >= 4_999_000).all()
    assert stages["copy_out_ns"].min() < 4_000_000  # the call itself is not in it
    assert stages["copy_in_ns"].min() < 4_000_000
    assert result.log.service_ns.min() >= 8_990_000
    assert result.spec.transfers
    sim.set_copy_rate(32 / 0.1)
    copying = run(executor, transfers=True, calls=8, warmup_calls=1)
    assert "bound by copies" in str(copying)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_with_transfers_each_call_gets_its_input_as_it_was(sim, executor: str):
    from support import simulated_models

    model = simulated_models.WritesIntoItsInput().eval()
    model = torch.jit.script(model) if executor == "native" else model
    given = [torch.ones(2, 4), torch.full((2, 4), 5.0)]
    with torch.no_grad():
        result = il.run(
            model,
            given,
            load=il.ClosedLoop(callers=3),
            calls=60,
            device="sim",
            transfers=True,
            verify=True,
            executor=executor,
        )
    assert result.verification.compared
    assert not result.verification.differing
    assert torch.equal(given[0], torch.ones(2, 4))  # the caller's own tensors stay as they are


@pytest.mark.parametrize(
    "load", [il.ClosedLoop(callers=3), il.OpenLoop.constant(rate_per_s=200, callers=3)]
)
def test_fresh_inputs_are_copied_on_the_device_and_in_no_time_of_a_call(sim, load):
    from support import simulated_models

    given = [torch.ones(2, 4), torch.full((2, 4), 5.0)]
    with torch.no_grad():
        result = il.run(
            simulated_models.WritesIntoItsInput().eval(),
            given,
            load=load,
            calls=40,
            device="sim",
            fresh_inputs=True,
            verify=True,
        )
    assert result.verification.compared
    assert not result.verification.differing
    assert not {"input-changes", "outputs-differ"} & {one.code for one in result.warnings}
    assert torch.equal(given[0], torch.ones(2, 4))


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
def test_work_on_two_devices_is_waited_for_on_both(sim, executor: str):
    from support import simulated_models

    model = simulated_models.OnTwo().eval()
    model = torch.jit.script(model) if executor == "native" else model
    given = (torch.ones(1, device="sim:0"), torch.ones(1, device="sim:1"))
    with torch.no_grad():
        result = il.run(model, [given], load=il.ClosedLoop(callers=2), calls=10, executor=executor)
    assert result.spec.devices == ("sim:0", "sim:1")
    assert result.log.service_ns.min() >= 12_000_000  # 2 ms on the one, 12 ms on the other
    assert (result.log.stages["device_ns"] >= 11_990_000).all()


def test_peaks_of_memory_are_the_run_s_own_and_those_of_each_device(sim):
    from support import simulated_models

    before = torch.zeros(64 << 20, dtype=torch.uint8, device="sim:0")
    del before
    given = (torch.ones(1, device="sim:0"), torch.ones(1 << 20, device="sim:1"))
    with torch.no_grad():
        result = il.run(simulated_models.OnTwo().eval(), [given], calls=4)
    first, second = result.devices
    assert (first.device, second.device) == ("sim:0", "sim:1")
    assert 0 < first.peak_allocated_bytes < 4 << 20 <= second.peak_allocated_bytes


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


def test_stages_and_devices_survive_saving(sim, tmp_path: Path):
    result = run("native", transfers=True, calls=400)
    result.save(tmp_path / "run.json")
    loaded = il.load_result(tmp_path / "run.json")
    assert loaded.devices == result.devices
    assert set(loaded.log.stages) == set(result.log.stages)
    for name, column in result.log.stages.items():
        assert np.array_equal(loaded.log.stages[name], column)
    stages = loaded.summary.stages
    assert stages == result.summary.stages
    assert stages.wait_ms.quantile(0.5) == result.summary.stages.wait_ms.quantile(0.5)
    assert str(loaded) == str(result)


def test_a_mix_may_be_on_a_device_and_on_the_cpu(sim, tmp_path: Path):
    mix = il.Mix(
        {
            "there": (busy("native").to("sim:0"), [torch.ones(2, 4, device="sim:0")], 1.0),
            "here": (torch.jit.script(torch.nn.Identity()), [torch.ones(1)], 1.0),
        },
        callers={"there": 2, "here": 1},
    )
    with torch.no_grad():
        result = il.run(mix, duration_s=0.5, warmup="fixed")
    here, stages = result.log.input == 1, result.log.stages
    assert here.sum() > 0 < (~here).sum()
    assert (stages["issue_ns"][here] == -1).all()  # on the CPU there are no stages
    assert (stages["device_ns"][~here] >= 4_999_000).all()
    # what is said of the device is of its own calls
    assert result.summary.stages.device_ms.min >= 4.999
    assert result.summary.stages.device_ms.count == (~here).sum()
    (device,) = result.devices
    assert device.completed_calls == (~here).sum()
    assert device.p50_ms >= 5
    result.save(tmp_path / "run.json")
    assert str(il.load_result(tmp_path / "run.json")) == str(result)


def test_a_mix_is_put_on_the_device_that_is_asked_for(sim):
    mix = il.Mix(
        {name: (busy("threads"), [torch.ones(2, 4)], 1.0) for name in ("one", "two")},
        callers={"one": 1, "two": 1},
    )
    with torch.no_grad():
        result = il.run(mix, calls=20, device="sim:1")
    assert result.spec.devices == ("sim:1",)


@pytest.mark.multiprocess
def test_several_devices_have_processes_in_turn(tmp_path: Path):
    done = inferload(
        "run", str(MODEL), "--device", "sim:0,sim:1", "--callers", "2", "--calls", "120",
        "--json", "run.json", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = il.load_result(tmp_path / "run.json")
    assert result.spec.processes == 2
    assert [one.devices for one in result.processes] == [("sim:0",), ("sim:1",)]
    assert [(one.device, one.processes) for one in result.devices] == [
        ("sim:0", (0,)),
        ("sim:1", (1,)),
    ]
    assert sum(one.completed_calls for one in result.devices) == 120
    assert all(one.completed_calls > 0 for one in result.devices)
    assert all(one.peak_allocated_bytes > 0 for one in result.devices)
    items = [one.throughput_items_per_s for one in result.devices]
    assert sum(items) == pytest.approx(result.summary.throughput_items_per_s.value, rel=0.01)
    assert result.log.stages["device_ns"].min() >= 4_999_000
    assert "sim:1" in done.stdout


@pytest.mark.multiprocess
def test_three_processes_on_two_devices_are_added_up_by_device(tmp_path: Path):
    done = inferload(
        "run", str(MODEL), "--device", "sim:0,sim:1", "--processes", "3", "--calls", "90",
        "--form", "script", "--json", "run.json", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = il.load_result(tmp_path / "run.json")
    assert [one.processes for one in result.devices] == [(0, 2), (1,)]
    own = result.log.rows(np.isin(result.log.process, [0, 2]))
    assert result.devices[0].completed_calls == len(own)
    response_ms = np.sort(own.response_ns) / 1e6
    assert result.devices[0].p50_ms == response_ms[int(np.ceil(0.5 * len(own))) - 1]


def test_a_device_that_is_not_there_ends_the_command_line_in_one_sentence(tmp_path: Path):
    done = inferload("run", str(MODEL), "--device", "sim:9", "--calls", "10", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1] == (
        "error: there is no device sim:9: this machine has sim:0, sim:1"
    )


def test_batch_sizes_are_runs_of_stacked_inputs(tmp_path: Path):
    done = inferload(
        "run", str(MODEL), "--device", "sim", "--batch-sizes", "1,4,64", "--calls", "40",
        "--json", "run.json", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "most items" in done.stdout
    for size in (1, 4, 64):
        spec = json.loads((tmp_path / f"run-batch{size}.json").read_text())["spec"]
        assert set(spec["items_per_input"]) == {size}
        assert spec["inputs"][0].startswith(f"{size}x4:")
    assert not (tmp_path / "run.json").exists()
    large = il.load_result(tmp_path / "run-batch64.json").summary
    assert large.throughput_items_per_s.value == pytest.approx(
        64 * large.throughput_calls_per_s.value
    )
