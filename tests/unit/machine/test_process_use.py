from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np

from inferload.machine import process_use
from inferload.machine.process_use import ProcessWatch

PAGE = mmap.PAGESIZE


def watched(folder: Path, resident: list[int], shared: int = 1000, per_look: int = 100):
    watch = ProcessWatch(folder)
    (folder / "smaps_rollup").write_text("Rss: 9 kB\nPss:   5 kB\n")
    (folder / "status").write_text("Name: x\nVmHWM:   8 kB\n")
    (folder / "stat").write_text("7 (a) b) S 1 1 1 0 -1 0 0 0 0 0 50 25 0 0 20 0 1 0\n")
    for look, pages in enumerate(resident):
        (folder / "statm").write_text(f"99999 {pages} {shared} 1 0 1 0\n")
        watch.look(0.11 * look, per_look * look)
    return watch.memory


def test_a_leak_is_told_as_bytes_per_thousand_calls(tmp_path: Path):
    use = watched(tmp_path, [5000 + 3 * look for look in range(60)])
    # three pages for every 100 calls
    assert use.growth_bytes_per_1000_calls == 30 * PAGE
    assert use.growth_p < 1e-6
    assert use.growth_bytes == 3 * 29 * PAGE


def test_memory_that_settles_is_no_growth(tmp_path: Path):
    settled = [5000 + min(look, 25) * 10 for look in range(60)]
    assert watched(tmp_path, settled).growth_bytes_per_1000_calls == 0
    noise = np.random.default_rng(1).integers(0, 20, 60)
    use = watched(tmp_path, [5000 + int(value) for value in noise])
    assert use.growth_p > 0.01


def test_pages_that_are_shared_such_as_the_log_do_not_count_as_growth(tmp_path: Path):
    watch = ProcessWatch(tmp_path)
    (tmp_path / "stat").write_text("7 (x) S 1 1 1 0 -1 0 0 0 0 0 50 25 0 0 20 0 1 0\n")
    for look in range(60):
        (tmp_path / "statm").write_text(f"9 {5000 + look} {1000 + look} 1 0 1 0\n")
        watch.look(0.11 * look, look)
    assert watch.memory.growth_bytes_per_1000_calls == 0
    assert watch.memory.rss_bytes[-1] - watch.memory.rss_bytes[0] == 59 * PAGE


def test_time_on_cores_counts_from_the_first_look_in_user_and_kernel(tmp_path: Path):
    watch = ProcessWatch(tmp_path)
    (tmp_path / "statm").write_text("9 5 1 1 0 1 0\n")
    ticks = os.sysconf("SC_CLK_TCK")
    for look in range(3):
        user, kernel = 500 + 2 * ticks * look, 100 + ticks * look
        # a program may be called anything: its name has a bracket and a blank
        line = f"7 (a) b) S 1 1 1 0 -1 0 0 0 0 0 {user} {kernel} 9 9 20 0 1 0\n"
        (tmp_path / "stat").write_text(line)
        watch.look(0.11 * look, look)
    assert watch.cpu.cpu_s == (0.0, 3.0, 6.0)
    assert watch.cpu.times_s == watch.memory.times_s


def test_peaks_and_shares_are_those_of_the_system(tmp_path: Path):
    use = watched(tmp_path, [1, 1])
    assert use.peak_rss_bytes == 8192
    assert use.peak_pss_bytes == 5 * 1024
    assert watched(tmp_path, [1, 7]).peak_rss_bytes == 7 * PAGE


def test_looks_are_bounded_however_long_the_run(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(process_use, "MOST_LOOKS", 20)
    use = watched(tmp_path, list(range(1, 500)))
    assert len(use.rss_bytes) <= 21
    assert use.times_s[0] == 0
    assert use.times_s[-1] > 40
    assert list(use.times_s) == sorted(use.times_s)


def test_a_process_that_has_ended_is_not_known(tmp_path: Path):
    watch = ProcessWatch(tmp_path / "gone")
    watch.look(0.0, 0)
    assert watch.memory is None
    assert watch.cpu is None
