"""What the processes with callers take of memory and cores while they call."""

from __future__ import annotations

import mmap
import os
import time
from typing import TYPE_CHECKING

import numpy as np

from inferload.records.figures import CpuUse, MemoryUse
from inferload.stats.steadiness.steady_state import kendall_p, theil_sen_slope

if TYPE_CHECKING:
    from pathlib import Path

# Resident pages are looked at so often, which takes no lock; each time there are too many looks,
# every second is dropped and they come half as often.
LOOK_S = 0.1
MOST_LOOKS = 256
# Proportional shares make the kernel walk all pages, with a lock on the process's memory: that may
# take this much of the time.
PSS_SHARE = 0.002
# So many looks, in the later half of a run, are needed to speak of growth.
LEAST_LOOKS = 8


class ProcessWatch:
    """Looks at one process from time to time; ``folder`` is its own in /proc."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._interval_s = LOOK_S
        self._next_s = 0.0
        self._next_pss_s = 0.0
        self._times_s: list[float] = []
        self._rss: list[int] = []
        self._anonymous: list[int] = []
        self._calls: list[int] = []
        self._cpu_s: list[float] = []
        self._pss: list[tuple[float, int]] = []

    def look(self, elapsed_s: float, calls: int) -> None:
        """Note what it takes now, if it is time to; ``calls`` have finished."""
        if elapsed_s >= self._next_s:
            self._next_s = elapsed_s + self._interval_s
            self._look(elapsed_s, calls)
        if elapsed_s >= self._next_pss_s:
            began = time.perf_counter()
            pss = pss_bytes(self._folder)
            took_s = time.perf_counter() - began
            self._next_pss_s = elapsed_s + max(took_s / PSS_SHARE, 1.0)
            if pss is not None:
                self._pss.append((elapsed_s, pss))

    def _look(self, elapsed_s: float, calls: int) -> None:
        try:
            words = (self._folder / "statm").read_text(encoding="ascii").split()
            cpu_s = cpu_seconds(self._folder)
        except OSError:
            return  # it has ended, or this system has no such file
        resident, shared = int(words[1]), int(words[2])
        self._times_s.append(elapsed_s)
        self._rss.append(resident * mmap.PAGESIZE)
        # the log that callers fill and weights in shared memory are no growth of the process
        self._anonymous.append((resident - shared) * mmap.PAGESIZE)
        self._calls.append(calls)
        self._cpu_s.append(cpu_s)
        if len(self._rss) > MOST_LOOKS:
            self._interval_s *= 2
            for kept in (self._times_s, self._rss, self._anonymous, self._calls, self._cpu_s):
                del kept[1::2]

    @property
    def memory(self) -> MemoryUse | None:
        """What was found of memory; ``None`` where the system does not say."""
        if not self._rss:
            return None
        per_call, p = self._growth()
        return MemoryUse(
            times_s=tuple(self._times_s),
            rss_bytes=tuple(self._rss),
            peak_rss_bytes=max(*self._rss, peak_rss_bytes(self._folder)),
            pss_times_s=tuple(time_s for time_s, _ in self._pss),
            pss_bytes=tuple(pss for _, pss in self._pss),
            peak_pss_bytes=max((pss for _, pss in self._pss), default=None),
            growth_bytes_per_1000_calls=None if per_call is None else 1000 * per_call,
            growth_p=p,
            growth_bytes=None
            if per_call is None
            else round(per_call * (self._calls[-1] - self._calls[len(self._calls) // 2])),
        )

    @property
    def cpu(self) -> CpuUse | None:
        """What was found of cores; ``None`` where the system does not say."""
        if not self._rss:
            return None
        first_s = self._cpu_s[0]
        return CpuUse(
            times_s=tuple(self._times_s), cpu_s=tuple(one - first_s for one in self._cpu_s)
        )

    def _growth(self) -> tuple[float | None, float | None]:
        """Bytes a call by which private memory grows in the later half, and Kendall's p of it."""
        half = len(self._calls) // 2
        calls, first = np.unique(np.array(self._calls[half:], np.float64), return_index=True)
        held = np.array(self._anonymous[half:], np.float64)[first]
        if len(calls) < LEAST_LOOKS:
            return None, None
        return theil_sen_slope(held, calls), kendall_p(held)


def cpu_seconds(folder: Path) -> float:
    """The time that all threads of a process have been on a core (utime and stime of proc(5)).

    It moves by clock ticks, of 10 ms.
    """
    # the name of the program stands in brackets, and may hold any of them
    words = (folder / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2]
    return sum(map(int, words.split()[11:13])) / os.sysconf("SC_CLK_TCK")


def pss_bytes(folder: Path) -> int | None:
    """The proportional set size of a process: pages that others share count in part (proc(5))."""
    return _kilobytes(folder / "smaps_rollup", "Pss:")


def peak_rss_bytes(folder: Path) -> int:
    """The largest resident set size that a process has had; 0 where that is not known."""
    return _kilobytes(folder / "status", "VmHWM:") or 0


def _kilobytes(file: Path, name: str) -> int | None:
    try:
        for line in file.read_text(encoding="ascii").splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None
