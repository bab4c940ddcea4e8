"""Figures and warnings of devices, from what NVML would have said of them."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

import inferload as il
from inferload.log.failures import in_short, is_fatal
from inferload.machine.telemetry import Telemetry
from inferload.plan.options import RunOptions
from inferload.records.devices import DeviceFigures, DeviceInfo, DeviceMemory, GpuSamples
from inferload.report.text.devices import power_caps
from inferload.runs.device_result import device_warnings

UUID = "8f6d0e5c-1a2b"
LOOKS = 200


class Telemetered:
    """Stands for RunTelemetry: 100 J a second, the clock held back in every fifth look."""

    def __init__(self, devices: list[DeviceInfo], *, wanted: bool) -> None:
        self.devices, self.wanted = devices, wanted

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def begin(self, start_ns: int) -> None:
        pass

    def look(self) -> None:
        pass

    @property
    def found(self) -> Telemetry:
        times = tuple(-1 + 0.05 * number for number in range(LOOKS))
        each = {
            "sm_clock_mhz": 1500,
            "memory_clock_mhz": 2600,
            "utilization_fraction": 0.5,
            "memory_utilization_fraction": 0.25,
            "power_w": 100.0,
            "temperature_c": 60,
            "used_memory_bytes": 3 << 30,
        }
        samples = GpuSamples(
            uuid=f"GPU-{UUID.upper()}",
            times_s=times,
            throttle_reasons=tuple(0x40 if n % 5 == 0 else 0x4 for n in range(LOOKS)),
            energy_j=tuple(1000 + 100 * time_s for time_s in times),
            max_sm_clock_mhz=1980,
            power_limit_w=700.0,
            **{name: (value,) * LOOKS for name, value in each.items()},
        )
        return Telemetry(gpus=(samples,), cpu_joules=((0.0, 10.0), (5.0, 60.0)), trouble="made up")


@pytest.fixture
def on_a_gpu(monkeypatch):
    """Runs on the CPU that look as if they were on a GPU."""
    info = DeviceInfo(device="cuda:0", name="NVIDIA Made Up", uuid=UUID, memory_bytes=80 << 30)
    monkeypatch.setattr("inferload.runs.driving.RunTelemetry", Telemetered)
    monkeypatch.setattr(
        "inferload.callers.local.crew.LocalCrew._devices_of_lanes", lambda _: ("cuda:0",)
    )
    monkeypatch.setattr("inferload.callers.local.crew.environment", lambda _: {"devices": []})
    monkeypatch.setattr("inferload.callers.local.crew.info_of", lambda _: info)
    monkeypatch.setattr("inferload.callers.local.crew.forget_peaks", lambda _: None)
    monkeypatch.setattr("inferload.callers.local.crew.settle", lambda _: None)
    memory = DeviceMemory(device="cuda:0", peak_allocated_bytes=5, peak_reserved_bytes=9)
    monkeypatch.setattr("inferload.callers.local.crew.memory_of", lambda _: memory)


def run(**options) -> il.RunResult:
    inputs = [il.CallInput((torch.zeros(2),), items=4)]
    return il.run(torch.nn.Identity(), inputs, warmup="fixed", **options)


def test_energy_clocks_and_memory_are_those_of_the_device_over_the_measured_part(on_a_gpu):
    result = run(duration_s=1.2)
    (device,) = result.devices
    calls, duration_s = result.summary.completed_calls, result.summary.duration_s
    assert device.energy_j == pytest.approx(100 * duration_s, rel=1e-6)
    assert device.energy_per_call_j == pytest.approx(device.energy_j / calls)
    assert device.energy_per_item_j == pytest.approx(device.energy_j / calls / 4)
    assert (device.sm_clock_mhz, device.max_sm_clock_mhz) == (1500, 1980)
    assert (device.power_w, device.power_limit_w) == (100, 700)
    assert (device.peak_allocated_bytes, device.peak_reserved_bytes) == (5, 9)
    assert device.peak_used_bytes == 3 << 30
    assert device.throttled["hardware thermal slowdown"] == pytest.approx(0.2, abs=0.05)
    assert device.throttled["power brake"] == 0
    assert device.power_capped_fraction == pytest.approx(0.8, abs=0.05)
    assert result.cpu_energy_j == pytest.approx(10 * duration_s, rel=1e-6)
    report = " ".join(str(result).split())
    assert "cuda:0" in report
    assert "1500 MHz" in report
    assert re.search(
        r"of cuda:0 were held back \(hardware thermal slowdown in (1[5-9]|2\d)", report
    )
    assert re.search(r"cuda:0: clocks held to the power limit of 700 W in (7[5-9]|8\d)", report)
    assert "made up [no-telemetry]" in report
    assert "energy processor packages" in report


def test_of_a_short_run_no_energy_is_quoted(on_a_gpu):
    (device,) = run(calls=100).devices
    assert (device.energy_j, device.energy_per_call_j) == (None, None)
    assert device.power_w == 100


def figures(**changes: object) -> DeviceFigures:
    return DeviceFigures(device="cuda:0", name="NVIDIA Made Up", **changes)


def test_what_slows_the_clocks_for_a_moment_is_no_warning():
    assert device_warnings([figures(throttled={"power brake": 0.04})], []) == []
    (warning,) = device_warnings([figures(throttled={"power brake": 0.5})], [])
    assert warning.code == "gpu-throttled"
    assert "power brake in 50% of the looks" in warning.message


def test_a_power_limit_that_is_met_for_a_moment_is_not_told(on_a_gpu):
    result = run(calls=100)
    capped = [replace(result.devices[0], power_capped_fraction=share) for share in (0.04, None)]
    assert power_caps(replace(result, devices=tuple(capped))) == []


def test_ranks_of_one_machine_take_the_devices_in_turn():
    whole = RunOptions(devices=("cuda:0", "cuda:1", "cuda:2"), processes=2, calls=100)
    ranks = [whole.of_rank(4 + rank, 6, rank, 2) for rank in (0, 1)]
    found = [own.device_of(process) for own in ranks for process in (0, 1)]
    assert found == ["cuda:0", "cuda:1", "cuda:2", "cuda:0"]


ADVICE = "If reserved but unallocated memory is large try setting PYTORCH_CUDA_ALLOC_CONF"


def test_torchs_advice_is_left_out_of_what_a_device_says():
    text = (
        "OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total "
        "capacity of 79.10 GiB of which 10.50 MiB is free. Including non-PyTorch memory, " + ADVICE
    )
    assert in_short(text) == (
        "OutOfMemoryError: CUDA out of memory: 20.00 MiB were asked for, and GPU 0 has 10.50 MiB "
        "free of 79.10 GiB"
    )
    assert not is_fatal(text)
    scripted = "RuntimeError: The following operation failed.\nTraceback of TorchScript:\n"
    assert in_short(scripted + "RuntimeError: CUDA error: device-side assert triggered\nmore") == (
        "RuntimeError: CUDA error: device-side assert triggered"
    )
    assert in_short(scripted + text).startswith("RuntimeError: CUDA out of memory: 20.00 MiB were")
    assert not is_fatal("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)")
    assert in_short("RuntimeError: a\nb") == "RuntimeError: a\nb"
    fatal = "AcceleratorError: CUDA error: an illegal memory access was encountered\nCompile with"
    assert is_fatal(fatal)
    assert in_short(fatal).endswith("was encountered")
