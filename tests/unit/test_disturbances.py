from __future__ import annotations

from pathlib import Path

import pytest

from inferload import disturbances as module
from inferload.disturbances import steal_fraction, throttled_s


def test_the_stolen_fraction_is_that_of_the_time_between_two_looks():
    assert steal_fraction((10, 1000), (15, 2000)) == 0.005
    assert steal_fraction(None, (15, 2000)) is None
    assert steal_fraction((10, 1000), (10, 1000)) is None


@pytest.mark.parametrize(
    ("text", "place", "seconds"),
    [
        ("usage_usec 5\nnr_throttled 2\nthrottled_usec 1500000\n", 0, 1.5),
        ("nr_periods 1\nthrottled_time 2000000000\n", 1, 2.0),
        ("usage_usec 5\n", 0, None),
    ],
)
def test_both_cgroup_versions_say_how_long_they_throttled(
    tmp_path: Path, monkeypatch, text, place, seconds
):
    paths = [str(tmp_path / "none")] * 2
    (tmp_path / "stat").write_text(text)
    paths[place] = str(tmp_path / "stat")
    monkeypatch.setattr(module, "_CGROUP_STATS", tuple(paths))
    assert throttled_s() == seconds


def test_doctor_names_everything_that_a_run_depends_on(monkeypatch):
    from inferload import doctor

    found = {one.name: one for one in doctor.findings(lambda _: None)}
    assert {"cores", "quota", "steal", "governor", "turbo", "clock", "timer"} <= set(found)
    assert {"allocator", "C++ compiler", "native callers"} <= set(found)
    assert all(one.well or one.hint for one in found.values())
    monkeypatch.setattr(doctor, "stolen_and_total", lambda: (10, 100))
    monkeypatch.setattr(doctor, "throttled_s", lambda: 2.0)
    assert not doctor._steal().well
    assert "throttled for 2 s" in doctor._quota().found
    monkeypatch.setattr(doctor, "first_line", lambda _: "powersave")
    assert not doctor._governor().well
