"""Several devices in one run, and mixes and processes on them; what is saved of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import inferload as il
from support.on_device import EXECUTORS, MODEL, busy, run
from support.program import inferload

pytestmark = pytest.mark.native


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
