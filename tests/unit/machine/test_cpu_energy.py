"""The energy of processors, from the counters of a machine made up of files."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest

from inferload.machine import cpu_energy
from inferload.machine.cpu_energy import CpuEnergy


class Powercap:
    """A tree as in /sys/class/powercap, where all zones lie side by side."""

    def __init__(self, root: Path, **packages: int) -> None:
        self.root = root
        for zone, start_uj in packages.items():
            self.add(zone.replace("_", ":"), f"package-{zone[1:]}", start_uj)

    def add(self, zone: str, name: str, energy_uj: int, driver: str = "intel-rapl") -> None:
        folder = self.root / f"{driver}{zone}"
        folder.mkdir()
        (folder / "name").write_text(f"{name}\n")
        (folder / "max_energy_range_uj").write_text("262143328850\n")
        (folder / "energy_uj").write_text(f"{energy_uj}\n")

    def put(self, zone: str, energy_uj: int, driver: str = "intel-rapl") -> None:
        (self.root / f"{driver}{zone}" / "energy_uj").write_text(f"{energy_uj}\n")


class Clock:
    def __init__(self, monkeypatch) -> None:
        self.now_s = 100.0
        monkeypatch.setattr(
            cpu_energy, "time", SimpleNamespace(perf_counter_ns=lambda: round(self.now_s * 1e9))
        )


@pytest.fixture
def clock(monkeypatch) -> Clock:
    return Clock(monkeypatch)


def test_the_energy_of_processors_is_that_of_all_packages_and_of_nothing_twice(tmp_path: Path):
    tree = Powercap(tmp_path, _0=1_000_000)
    tree.add(":1", "package-1-die-0", 5_000_000)
    tree.add(":0:0", "core", 0)
    tree.add(":2", "psys", 0)
    tree.add("", "intel-rapl", 0)
    tree.add(":0", "package-0", 0, "intel-rapl-mmio")
    with CpuEnergy(tmp_path) as energy:
        tree.put(":0", 3_000_000)
        tree.put(":1", 5_500_000)
        for zone in (":0:0", ":2", ""):
            tree.put(zone, 9_000_000)
        tree.put(":0", 9_000_000, "intel-rapl-mmio")
    assert energy.joules == pytest.approx(2.5)
    assert energy.trouble is None


def test_a_counter_that_wraps_is_carried_on_as_often_as_it_is_looked_at(tmp_path: Path):
    tree = Powercap(tmp_path, _0=262_143_000_000)
    with CpuEnergy(tmp_path) as energy:
        tree.put(":0", 671_150)
        energy.look()
        tree.put(":0", 200_000_000_000)
        energy.look()
        tree.put(":0", 671_150)
    assert energy.joules == pytest.approx(1 + 262_143.32885, rel=1e-9)


def test_energy_that_only_root_may_read_is_not_known(tmp_path: Path, monkeypatch):
    Powercap(tmp_path, _0=1)

    def refuse(file):
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(cpu_energy, "_number", refuse)
    with CpuEnergy(tmp_path) as energy:
        energy.look()
    assert energy.joules is None
    assert energy.between(0, 1) is None
    assert "can only be read by root" in energy.trouble
    assert str(tmp_path) in energy.trouble


def test_one_package_that_cannot_be_read_makes_all_energy_unknown(tmp_path: Path):
    tree = Powercap(tmp_path, _0=1, _1=1)
    (tmp_path / "intel-rapl:1" / "energy_uj").unlink()
    with CpuEnergy(tmp_path) as energy:
        tree.put(":0", 2_000_000)
    assert energy.joules is None
    assert "intel-rapl:1" in energy.trouble


def test_a_machine_that_counts_no_energy_is_not_known(tmp_path: Path):
    for root in (tmp_path, tmp_path / "none"):
        with CpuEnergy(root) as energy:
            energy.look()
        assert energy.joules is None
        assert str(root) in energy.trouble


def test_counters_that_stand_still_are_no_saving(tmp_path: Path):
    Powercap(tmp_path, _0=0)
    with CpuEnergy(tmp_path) as energy:
        pass
    assert energy.joules is None
    assert "stand still" in energy.trouble


def test_the_energy_of_processors_between_two_times_is_interpolated(tmp_path: Path, clock: Clock):
    tree = Powercap(tmp_path, _0=0)
    with CpuEnergy(tmp_path) as energy:
        energy.start_ns = 101_000_000_000
        for watts in (50, 150):
            clock.now_s += 1
            tree.put(":0", 50_000_000 if watts == 50 else 200_000_000)
            energy.look()
    assert energy.between(-0.5, 0.5) == pytest.approx(25 + 75)
    assert energy.between(0, 1) == pytest.approx(150)
    assert energy.between(0, 1.5) == pytest.approx(225)
    assert energy.between(0, 3) is None


def test_looks_at_processors_are_bounded_and_the_newest_is_kept(
    tmp_path: Path, clock: Clock, monkeypatch
):
    monkeypatch.setattr(cpu_energy, "MOST_SAMPLES", 8)
    tree = Powercap(tmp_path, _0=0)
    with CpuEnergy(tmp_path) as energy:
        for look in range(1, 1000):
            clock.now_s += 0.03
            tree.put(":0", look * 3_000_000)
            energy.look()
            assert len(energy._looks) <= 9
    times_s = [time_ns / 1e9 for time_ns, _ in energy._looks]
    assert (times_s[0], times_s[-1]) == pytest.approx((100, clock.now_s))
    gaps_s = [after - before for before, after in itertools.pairwise(times_s[:-1])]
    assert max(gaps_s) < 2 * min(gaps_s)
    assert energy.joules == pytest.approx(3 * 999)
    energy.start_ns = 100_000_000_000
    assert energy.between(0, 0.03 * 999) == pytest.approx(3 * 999)
    assert energy.between(5, 25) == pytest.approx(20 * 100)


def test_energy_that_can_no_longer_be_read_is_known_up_to_there(tmp_path: Path, clock: Clock):
    tree = Powercap(tmp_path, _0=0)
    with CpuEnergy(tmp_path) as energy:
        energy.start_ns = 100_000_000_000
        clock.now_s += 1
        tree.put(":0", 40_000_000)
        energy.look()
        clock.now_s += 4
        tree.put(":0", 80_000_000)
        (tmp_path / "intel-rapl:0" / "energy_uj").write_text("")
    assert energy.joules is None
    assert energy.between(0, 1) == pytest.approx(40)
    assert energy.between(0, 5) is None
    assert "cannot be read" in energy.trouble
