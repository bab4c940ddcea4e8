from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
import torch

import inferload as il
from inferload.machine import cgroups
from inferload.machine import disturbances as module
from inferload.machine.disturbances import GilWatch, steal_fraction
from inferload.machine.hardware import usable_cores


class Multiplies(torch.nn.Module):
    """Nothing but a product, which is made without the GIL."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ x


def test_the_stolen_fraction_is_that_of_the_time_between_two_looks():
    assert steal_fraction((10, 1000), (15, 2000)) == 0.005
    assert steal_fraction(None, (15, 2000)) is None
    assert steal_fraction((10, 1000), (10, 1000)) is None


@pytest.fixture
def groups(tmp_path: Path, monkeypatch) -> Path:
    """A root of control groups that this process seems to live in, under ``/outer/inner``."""
    monkeypatch.setattr(cgroups, "ROOT", tmp_path)
    monkeypatch.setattr(cgroups, "OWN", tmp_path / "own")
    (tmp_path / "own").write_text("0::/outer/inner\n")
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    return tmp_path


def test_a_quota_of_any_group_above_holds_a_process_back(groups: Path):
    assert cgroups.quota_cores() is None
    assert cgroups.throttled_s() is None
    (groups / "outer/inner/cpu.max").write_text("max 100000\n")
    (groups / "outer/cpu.max").write_text("150000 100000\n")
    assert cgroups.quota_cores() == 1.5
    (groups / "outer/inner/cpu.max").write_text("300000 100000\n")
    assert cgroups.quota_cores() == 1.5
    stat = "usage_usec 5\nnr_throttled 2\nthrottled_usec 1500000\n"
    (groups / "outer/inner/cpu.stat").write_text("usage_usec 5\n")
    (groups / "outer/cpu.stat").write_text(stat)
    assert cgroups.throttled_s() == 1.5


def test_the_first_version_of_control_groups_is_read_too(groups: Path):
    (groups / "own").write_text("3:memory:/a\n2:cpu,cpuacct:/b\n")
    own = groups / "cpu,cpuacct" / "b"
    own.mkdir(parents=True)
    (own / "cpu.cfs_quota_us").write_text("200000\n")
    (own / "cpu.cfs_period_us").write_text("100000\n")
    (own / "cpu.stat").write_text("nr_periods 1\nthrottled_time 2000000000\n")
    assert (cgroups.quota_cores(), cgroups.throttled_s()) == (2.0, 2.0)
    (own / "cpu.cfs_quota_us").write_text("-1\n")
    assert cgroups.quota_cores() is None


def test_a_container_that_sees_only_its_own_group_is_read_at_the_root(groups: Path):
    (groups / "own").write_text("0::/host/path/that/is/not/here\n")
    (groups / "cpu.max").write_text("100000 100000\n")
    assert cgroups.quota_cores() == 1.0


def test_doctor_names_everything_that_a_run_depends_on(monkeypatch):
    from inferload.runs import doctor

    found = {one.name: one for one in doctor.findings(lambda _: None)}
    assert {"cores", "quota", "steal", "governor", "turbo", "clock", "timer"} <= set(found)
    assert {"allocator", "C++ compiler", "native callers"} <= set(found)
    assert all(one.well or one.hint for one in found.values())
    monkeypatch.setattr(doctor, "stolen_and_total", lambda: (10, 100))
    monkeypatch.setattr(doctor, "throttled_s", lambda: 2.0)
    assert not doctor._steal().well
    assert "throttled for 2 s" in doctor._quota().found
    monkeypatch.setattr(doctor, "governor", lambda: "powersave")
    assert not doctor._governor().well


def test_what_the_system_counts_during_a_run_becomes_its_warnings(monkeypatch):
    looks = iter([(100, 10_000), (110, 11_000)])
    held_s = iter([3.0, 3.5])
    monkeypatch.setattr(module, "stolen_and_total", lambda: next(looks))
    monkeypatch.setattr(module, "throttled_s", lambda: next(held_s))
    result = il.run(lambda x: x, [torch.zeros(1)], calls=50)
    found = {one.code: one.message for one in result.warnings}
    assert "gave 1.0% of the machine" in found["steal"]
    assert "for 0.5 s" in found["throttled"]


@pytest.mark.parametrize("executor", ["threads", pytest.param("native", marks=pytest.mark.native)])
def test_callers_without_a_core_are_found_in_the_run_queue(executor):
    model = Multiplies()
    with torch.inference_mode():
        result = il.run(
            torch.jit.script(model) if executor == "native" else model,
            [torch.ones(300, 300)],
            load=il.ClosedLoop(callers=2 * os.cpu_count() + 2),
            duration_s=1.0,
            executor=executor,
            threads_per_call=1,
        )
    assert "run-queue" in {one.code for one in result.warnings}


def waits(work) -> float:
    """How often a thread beside others that work has to wait for the GIL."""
    over = threading.Event()

    def again() -> None:
        while not over.is_set():
            work()

    threads = [threading.Thread(target=again) for _ in range(3)]
    for one in threads:
        one.start()
    try:
        with GilWatch() as watch:
            time.sleep(1.5)
    finally:
        over.set()
        for one in threads:
            one.join()
    assert watch.waits is not None
    return watch.waits


def test_a_thread_waits_for_a_gil_that_others_hold_and_not_for_one_that_nobody_has():
    assert waits(lambda: sum(range(100_000))) > 0.5
    if usable_cores() > 1:
        # other programs keep a thread from its core as well, now and then
        assert any(waits(lambda: time.sleep(0.02)) < 0.4 for _ in range(30))


def test_of_few_times_nothing_is_told():
    with GilWatch() as watch:
        pass
    assert watch.waits is None
