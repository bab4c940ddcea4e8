from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np

from inferload import memory
from inferload.memory import MemoryWatch

PAGE = mmap.PAGESIZE


def watched(folder: Path, resident: list[int], shared: int = 1000, per_look: int = 100):
    watch = MemoryWatch(folder)
    (folder / "smaps_rollup").write_text("Rss: 9 kB\nPss:   5 kB\n")
    (folder / "status").write_text("Name: x\nVmHWM:   8 kB\n")
    for look, pages in enumerate(resident):
        (folder / "statm").write_text(f"99999 {pages} {shared} 1 0 1 0\n")
        watch.look(0.11 * look, per_look * look)
    return watch.found


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
    watch = MemoryWatch(tmp_path)
    for look in range(60):
        (tmp_path / "statm").write_text(f"9 {5000 + look} {1000 + look} 1 0 1 0\n")
        watch.look(0.11 * look, look)
    assert watch.found.growth_bytes_per_1000_calls == 0
    assert watch.found.rss_bytes[-1] - watch.found.rss_bytes[0] == 59 * PAGE


def test_peaks_and_shares_are_those_of_the_system(tmp_path: Path):
    use = watched(tmp_path, [1, 1])
    assert use.peak_rss_bytes == 8192
    assert use.peak_pss_bytes == 5 * 1024
    assert watched(tmp_path, [1, 7]).peak_rss_bytes == 7 * PAGE


def test_looks_are_bounded_however_long_the_run(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(memory, "MOST_LOOKS", 20)
    use = watched(tmp_path, list(range(1, 500)))
    assert len(use.rss_bytes) <= 21
    assert use.times_s[0] == 0
    assert use.times_s[-1] > 40
    assert list(use.times_s) == sorted(use.times_s)


def test_a_process_that_has_ended_is_not_known(tmp_path: Path):
    watch = MemoryWatch(tmp_path / "gone")
    watch.look(0.0, 0)
    assert watch.found is None
