"""What NVML says of GPUs, watched while a run goes on."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from inferload.machine import gpu_watch
from inferload.machine.gpu_samples import (
    bare_uuid,
    energy_between,
)
from inferload.machine.gpu_watch import GpuWatch
from inferload.records.devices import DeviceInfo, GpuSamples

UUID = "GPU-8f6d0e5c-0000-1111-2222-333344445555"
NEVER_S = 3600.0


def gpu(uuid: str | None = UUID, device: str = "cuda:0") -> DeviceInfo:
    return DeviceInfo(device=device, name="NVIDIA Made Up", uuid=uuid)


class NVMLError(Exception):
    pass


class Library:
    """NVML of one or more GPUs; what is in ``failing`` is not supported, ``asked`` counts."""

    NVMLError = NVMLError
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self, uuids=(UUID,), failing=()) -> None:
        self.uuids = uuids
        self.failing = set(failing)
        self.asked: dict[str, int] = {}
        self.energy_mj = 5000
        self.threads: list[threading.Thread] = []
        self.enough, self.enough_asked = threading.Event(), 3

    def answer(self, name: str, value):
        self.asked[name] = self.asked.get(name, 0) + 1
        if name in self.failing:
            raise NVMLError(f"{name} is not supported")
        return value

    def nvmlInit(self):  # noqa: N802 - NVML's own names
        self.answer("init", None)

    def nvmlShutdown(self):  # noqa: N802
        self.answer("shutdown", None)

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802
        if not isinstance(uuid, bytes):
            raise TypeError("bytes or integer address expected")  # as ctypes does
        if uuid.decode() not in self.uuids:
            raise NVMLError("Not Found")
        return self.answer("handle", uuid.decode())

    def nvmlDeviceGetClockInfo(self, handle, kind):  # noqa: N802
        return self.answer("clock", {1: 1980, 2: 2619}[kind])

    def nvmlDeviceGetMaxClockInfo(self, handle, kind):  # noqa: N802
        return self.answer("max_clock", {1: 2000, 2: 3000}[kind])

    def nvmlDeviceGetUtilizationRates(self, handle):  # noqa: N802
        return self.answer("utilization", SimpleNamespace(gpu=75, memory=20))

    def nvmlDeviceGetPowerUsage(self, handle):  # noqa: N802
        return self.answer("power", 412_500)

    def nvmlDeviceGetEnforcedPowerLimit(self, handle):  # noqa: N802
        return self.answer("limit", 700_000)

    def nvmlDeviceGetTemperatureV(self, handle, sensor):  # noqa: N802
        return self.answer("temperature_v", 61)

    def nvmlDeviceGetTemperature(self, handle, sensor):  # noqa: N802
        return self.answer("temperature", 60)

    def nvmlDeviceGetMemoryInfo(self, handle):  # noqa: N802
        return self.answer("memory", SimpleNamespace(used=2**30, free=1, total=2**30 + 1))

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle):  # noqa: N802
        return self.answer("event_reasons", 0x4)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle):  # noqa: N802
        return self.answer("throttle_reasons", 0x8)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):  # noqa: N802
        self.threads.append(threading.current_thread())
        self.energy_mj += 1000
        if len(self.threads) >= self.enough_asked:
            self.enough.set()
        return self.answer("energy", self.energy_mj)


def seen(library: Library, *devices: DeviceInfo) -> GpuWatch:
    with GpuWatch(devices or [gpu()], period_s=NEVER_S, library=library) as watch:
        pass
    return watch


@pytest.fixture
def energy_at_every_look(monkeypatch):
    monkeypatch.setattr(gpu_watch, "ENERGY_PERIOD_NS", 0)


def test_what_nvml_says_is_kept_in_units_of_the_house():
    watch = seen(Library())
    (found,) = watch.samples
    assert watch.trouble is None
    assert found == GpuSamples(
        uuid=UUID,
        times_s=found.times_s,
        sm_clock_mhz=(1980, 1980),
        memory_clock_mhz=(2619, 2619),
        utilization_fraction=(0.75, 0.75),
        memory_utilization_fraction=(0.2, 0.2),
        power_w=(412.5, 412.5),
        temperature_c=(61, 61),
        used_memory_bytes=(2**30, 2**30),
        throttle_reasons=(4, 4),
        energy_j=(6.0, 7.0),
        max_sm_clock_mhz=2000,
        power_limit_w=700.0,
    )


def test_a_run_shorter_than_the_period_has_a_sample_at_both_ends():
    began = time.perf_counter()
    with GpuWatch([gpu()], period_s=NEVER_S, library=Library()) as watch:
        entered = time.perf_counter()
        time.sleep(0.01)
    assert time.perf_counter() - began < 60  # and not the period
    first, last = watch.samples[0].times_s
    assert last - first >= 0.01
    assert first <= entered - watch.start_ns / 1e9
    assert energy_between(watch.samples[0], first, last) == pytest.approx(1)


@pytest.mark.usefixtures("energy_at_every_look")
def test_between_the_ends_a_thread_samples_that_nothing_waits_for():
    library = Library()
    with GpuWatch([gpu()], period_s=0.001, library=library) as watch:
        assert library.enough.wait(60)
    thread = library.threads[1]
    assert thread is not threading.current_thread()
    assert thread.daemon
    assert not thread.is_alive()
    assert len(watch.samples[0].times_s) == len(library.threads) >= 3


def test_samples_are_timed_from_the_line_whenever_it_is_told():
    watch = seen(Library())
    first, last = watch.samples[0].times_s
    watch.start_ns += 2_000_000_000
    assert watch.samples[0].times_s == pytest.approx((first - 2, last - 2))


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("energy", {"energy_j"}),
        ("power", {"power_w"}),
        ("utilization", {"utilization_fraction", "memory_utilization_fraction"}),
        ("memory", {"used_memory_bytes"}),
    ],
)
def test_what_a_gpu_does_not_support_is_asked_once_and_the_rest_goes_on(name, columns):
    library = Library(failing=[name])
    watch = seen(library)
    (found,) = watch.samples
    assert library.asked[name] == 1
    assert {
        one for one in GpuSamples.__dataclass_fields__ if getattr(found, one) == (None, None)
    } == columns
    assert watch.trouble is None


def test_a_query_that_fails_midway_is_unknown_from_then_on():
    library = Library()
    with GpuWatch([gpu()], period_s=NEVER_S, library=library) as watch:
        library.failing.add("power")
    assert watch.samples[0].power_w == (412.5, None)


def test_limits_that_are_not_known_are_none():
    found = seen(Library(failing=["limit", "max_clock"])).samples[0]
    assert (found.power_limit_w, found.max_sm_clock_mhz) == (None, None)


def test_an_older_driver_is_asked_by_the_older_names():
    library = Library(failing=["temperature_v", "event_reasons"])
    (found,) = seen(library).samples
    assert (found.temperature_c, found.throttle_reasons) == ((60, 60), (8, 8))
    assert library.asked["temperature_v"] == library.asked["event_reasons"] == 1


def test_an_older_pynvml_is_asked_by_the_older_names(monkeypatch):
    monkeypatch.delattr(Library, "nvmlDeviceGetTemperatureV")
    monkeypatch.delattr(Library, "nvmlDeviceGetCurrentClocksEventReasons")
    (found,) = seen(Library()).samples
    assert (found.temperature_c, found.throttle_reasons) == ((60, 60), (8, 8))


def test_a_gpu_is_sampled_once_however_often_and_in_whichever_form_it_is_named():
    other = UUID.replace("8", "9")
    watch = seen(Library([UUID, other]), gpu(UUID[4:]), gpu(UUID, "cuda:1"), gpu(other, "cuda:2"))
    assert [one.uuid for one in watch.samples] == [UUID, other]
    assert bare_uuid(UUID) == bare_uuid(UUID[4:])
    assert watch.trouble is None


def test_a_slice_of_a_gpu_is_found_by_the_uuid_that_torch_gives():
    watch = seen(Library(["MIG-1234"]), gpu("1234"))
    assert [one.uuid for one in watch.samples] == ["MIG-1234"]


def test_without_pynvml_there_are_no_samples_and_a_hint(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with GpuWatch([gpu()]) as watch:
        pass
    assert watch.samples == ()
    assert watch.trouble == "pynvml is not installed: pip install 'inferload[gpu]'"


def test_without_a_driver_there_are_no_samples_and_the_reason():
    library = Library(failing=["init"])
    watch = seen(library)
    assert watch.samples == ()
    assert "init is not supported" in watch.trouble
    assert "shutdown" not in library.asked


def test_a_gpu_that_nvml_does_not_find_is_named_and_the_others_are_sampled():
    library = Library()
    watch = seen(library, gpu(), gpu("GPU-elsewhere", "cuda:1"), gpu(None, "cuda:2"))
    assert [one.uuid for one in watch.samples] == [UUID]
    assert "GPU-elsewhere: Not Found" in watch.trouble
    assert "cuda:2 has no UUID" in watch.trouble
    assert library.asked["shutdown"] == 1
    library = Library()
    assert seen(library, gpu("GPU-elsewhere")).samples == ()
    assert library.asked["shutdown"] == 1


def test_a_run_without_gpus_leaves_nvml_alone():
    library = Library()
    with GpuWatch([], library=library) as watch:
        pass
    assert (watch.samples, watch.trouble, library.asked) == ((), None, {})


def test_nvml_that_fails_to_close_fails_nothing_else():
    watch = seen(Library(failing=["shutdown"]))
    assert len(watch.samples[0].times_s) == 2


@pytest.mark.usefixtures("energy_at_every_look")
def test_a_thread_that_nvml_does_not_let_go_holds_nobody_up(monkeypatch):
    monkeypatch.setattr(gpu_watch, "LONGEST_LOOK_S", 0.02)
    library, lost = Library(), threading.Event()
    watch = GpuWatch([gpu()], period_s=0.001, library=library)
    with watch:
        within = threading.Event()

        def hang(handle):
            within.set()
            lost.wait(60)
            return 1

        monkeypatch.setattr(library, "nvmlDeviceGetPowerUsage", hang)
        assert within.wait(60)
        began = time.perf_counter()
    assert time.perf_counter() - began < 50  # of the 60 that it hangs
    assert "did not answer within 0.02 s" in watch.trouble
    assert "shutdown" not in library.asked
    assert watch.samples[0].times_s
    lost.set()
    library.threads[-1].join(60)


def test_the_counter_of_energy_is_slow_and_asked_only_at_the_ends_of_a_short_run():
    library = Library()
    with GpuWatch([gpu()], period_s=0.0005, library=library) as watch:
        while library.asked.get("power", 0) < 5:
            time.sleep(0.001)
    energy = watch.samples[0].energy_j
    assert library.asked["energy"] == 2
    assert energy[0] is not None
    assert energy[-1] is not None
    assert set(energy[1:-1]) == {None}


@pytest.mark.usefixtures("energy_at_every_look")
def test_samples_are_bounded_however_long_the_run(monkeypatch):
    monkeypatch.setattr(gpu_watch, "MOST_SAMPLES", 8)
    library = Library([UUID, "GPU-b"])
    library.enough_asked = 2 * 40
    with GpuWatch([gpu(), gpu("GPU-b")], period_s=0.0001, library=library) as watch:
        assert library.enough.wait(60)
    for found in watch.samples:
        assert len(found.times_s) <= 8
        assert list(found.times_s) == sorted(found.times_s)
    first, second = (found.energy_j for found in watch.samples)
    # the counter is one, asked of both in turn: the first look and the last are still there
    assert (first[0], second[0]) == (6, 7)
    assert second[-1] == library.energy_mj / 1000
    # 40 looks are four halvings at least
    assert watch._period_s >= 0.0001 * 2**3


def test_the_cost_is_the_time_within_nvml_alone(monkeypatch):
    library = Library()
    slow = library.nvmlDeviceGetMemoryInfo
    monkeypatch.setattr(
        library, "nvmlDeviceGetMemoryInfo", lambda handle: (time.sleep(0.01), slow(handle))[1]
    )
    began = time.perf_counter()
    with GpuWatch([gpu()], period_s=NEVER_S, library=library) as watch:
        time.sleep(0.03)
    took_s = time.perf_counter() - began
    assert 0.02 <= watch.sampling_cost_s <= took_s - 0.03


def test_neither_torch_nor_pynvml_comes_with_the_module():
    code = (
        "import sys, inferload.machine.telemetry; "
        "print({'torch', 'pynvml', 'scipy'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
