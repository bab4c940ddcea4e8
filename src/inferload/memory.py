"""What memory the processes with callers take while they call, and whether it grows with calls."""

from __future__ import annotations

import mmap
import time
from typing import TYPE_CHECKING

import numpy as np

from inferload.records import MemoryUse
from inferload.steady_state import kendall_p, theil_sen_slope

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


class MemoryWatch:
    """Looks at the memory of one process from time to time; ``folder`` is its own in /proc."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._interval_s = LOOK_S
        self._next_s = 0.0
        self._next_pss_s = 0.0
        self._times_s: list[float] = []
        self._rss: list[int] = []
        self._anonymous: list[int] = []
        self._calls: list[int] = []
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
        except OSError:
            return  # it has ended, or this system has no such file
        resident, shared = int(words[1]), int(words[2])
        self._times_s.append(elapsed_s)
        self._rss.append(resident * mmap.PAGESIZE)
        # the log that callers fill and weights in shared memory are no growth of the process
        self._anonymous.append((resident - shared) * mmap.PAGESIZE)
        self._calls.append(calls)
        if len(self._rss) > MOST_LOOKS:
            self._interval_s *= 2
            for kept in (self._times_s, self._rss, self._anonymous, self._calls):
                del kept[1::2]

    @property
    def found(self) -> MemoryUse | None:
        """What was found; ``None`` where the system does not say."""
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

    def _growth(self) -> tuple[float | None, float | None]:
        """Bytes a call by which private memory grows in the later half, and Kendall's p of it."""
        half = len(self._calls) // 2
        calls, first = np.unique(np.array(self._calls[half:], np.float64), return_index=True)
        held = np.array(self._anonymous[half:], np.float64)[first]
        if len(calls) < LEAST_LOOKS:
            return None, None
        return theil_sen_slope(held, calls), kendall_p(held)


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
