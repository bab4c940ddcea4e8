"""Where the time of a call on a device went: stages, samples of them, transfers, the harness."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import inferload as il
from inferload.callers.local import executors as plan
from inferload.callers.local import floor
from inferload.callers.python import running as threads
from inferload.errors import NativeBuildError
from support.on_device import EXECUTORS, run

pytestmark = pytest.mark.native


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
    # of a call whose caller lost its core while it gave work to the device it is more; with what
    # the others gave, it would be 10 ms and more
    assert stages.device_ms.min == pytest.approx(5, abs=1)
    assert stages.copy_in_ms is None
    # on a machine with other work callers may be off their cores for longer than the device works
    of_device = stages.device_ms.mean / result.summary.response_ms.mean
    assert ("bound by the device" in str(result)) or of_device < 0.6


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
