"""What was used between two looks, and by several processes."""

from __future__ import annotations

import pytest

from inferload.machine.usage import used_so_far
from inferload.stats.slices.used import Used


def test_uses_are_subtracted_and_added():
    before = Used(wall_s=1.0, cpu_s=0.5, system_s=0.1, faults=10, gave_up=3, lost=1, idle_s=7.0)
    after = Used(wall_s=3.0, cpu_s=2.0, system_s=0.4, faults=25, gave_up=9, lost=2, idle_s=9.5)
    used = after.since(before)
    assert used == Used(
        wall_s=2.0,
        cpu_s=1.5,
        system_s=pytest.approx(0.3),
        faults=15,
        gave_up=6,
        lost=1,
        idle_s=2.5,
    )
    assert used.plus(used).faults == 30
    assert used.plus(used).for_(2.0).wall_s == 2.0


def test_what_this_process_used_grows():
    before = used_so_far()
    total = sum(i * i for i in range(300_000))
    used = used_so_far().since(before)
    assert total > 0
    assert used.wall_s > 0
    assert used.cpu_s > 0
    assert used.idle_s >= 0
