"""Energy, clocks and reasons from samples of a GPU."""

from __future__ import annotations

import pytest

from inferload.machine.gpu_samples import (
    energy_between,
    power_capped_fraction,
    throttled_fractions,
)
from inferload.records.devices import GpuSamples

UUID = "GPU-8f6d0e5c-0000-1111-2222-333344445555"


def samples(times_s, **columns) -> GpuSamples:
    unknown = dict.fromkeys(
        set(GpuSamples.__dataclass_fields__)
        - {"uuid", "times_s", "max_sm_clock_mhz", "power_limit_w"},
        (None,) * len(times_s),
    )
    return GpuSamples(uuid=UUID, times_s=tuple(times_s), **{**unknown, **columns})


def test_the_energy_is_what_the_counter_rose_by_between_two_times():
    made = samples([0, 1, 2, 3], energy_j=(1000.0, 1100.0, 1400.0, 1500.0), power_w=(9.0,) * 4)
    assert energy_between(made, 0, 3) == pytest.approx(500)
    assert energy_between(made, 0.5, 1.5) == pytest.approx(50 + 150)


def test_without_a_counter_the_energy_is_the_area_under_the_power():
    made = samples([0, 1, 2], power_w=(100.0, 300.0, 300.0))
    assert energy_between(made, 0, 2) == pytest.approx(200 + 300)
    assert energy_between(made, 0.5, 1.5) == pytest.approx(125 + 150)
    assert energy_between(made, 0.25, 0.75) == pytest.approx(100)


@pytest.mark.parametrize(
    "counter", [(7.0, 7.0, 7.0), (900.0, 950.0, 10.0), (7.0, 8.0, None), (None, None, 7.0)]
)
def test_power_steps_in_for_a_counter_that_does_not_count_to_the_end(counter):
    made = samples([0, 1, 4], energy_j=counter, power_w=(50.0, 50.0, 50.0))
    assert energy_between(made, 0, 4) == pytest.approx(200)


def test_energy_is_not_known_where_samples_cover_less_than_half():
    made = samples([0, 1], energy_j=(0.0, 100.0), power_w=(100.0, 100.0))
    assert energy_between(made, 0, 2.1) is None
    assert energy_between(made, 5, 6) is None
    assert energy_between(made, 1, 1) is None
    assert energy_between(samples([0.5], energy_j=(1.0,), power_w=(1.0,)), 0, 1) is None
    assert energy_between(samples([], power_w=()), 0, 1) is None
    assert energy_between(samples([0, 1]), 0, 1) is None


def test_a_part_without_samples_is_taken_to_be_like_the_rest():
    assert energy_between(samples([0, 1], energy_j=(0.0, 100.0)), 0, 1.5) == pytest.approx(150)
    assert energy_between(samples([0, 1], power_w=(80.0, 120.0)), -0.5, 1) == pytest.approx(150)


def test_lost_clocks_are_told_by_reason_and_the_power_cap_apart():
    masks = (0x40 | 0x8, 0x4, 0x4 | 0x20, 0x1, 0x80, None)
    made = samples([0, 1, 2, 3, 4, 5], throttle_reasons=masks)
    assert throttled_fractions(made, 1, 5) == {
        "hardware slowdown": 0,
        "software thermal slowdown": 0.25,
        "hardware thermal slowdown": 0,
        "power brake": 0.25,
    }
    assert throttled_fractions(made, 0, 0)["hardware slowdown"] == 1
    assert throttled_fractions(made, 0, 0)["hardware thermal slowdown"] == 1
    assert power_capped_fraction(made, 1, 4) == 0.5


def test_reasons_that_are_not_known_are_not_taken_for_none():
    made = samples([0, 1], throttle_reasons=(0, None))
    assert throttled_fractions(made, 1, 2) == {}
    assert power_capped_fraction(made, 1, 2) is None
    assert set(throttled_fractions(made, 0, 1).values()) == {0}
    assert power_capped_fraction(made, 0, 1) == 0
