"""What this process has used of the machine so far (getrusage(2)), and what nobody used."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

from inferload.stats.slices.used import Used

_STAT = Path("/proc/stat")


def used_so_far() -> Used:
    """Since this process, and for ``idle_s`` the machine, has begun."""
    found = resource.getrusage(resource.RUSAGE_SELF)
    return Used(
        wall_s=time.monotonic(),
        cpu_s=found.ru_utime + found.ru_stime,
        system_s=found.ru_stime,
        faults=found.ru_minflt,
        read_faults=found.ru_majflt,
        gave_up=found.ru_nvcsw,
        lost=found.ru_nivcsw,
        idle_s=_idle_s(),
    )


def _idle_s() -> float:
    """How long the cores that this process may use have been idle (proc(5), stat); 0: unknown."""
    try:
        own = {f"cpu{one}" for one in os.sched_getaffinity(0)}
        lines = _STAT.read_text(encoding="ascii").splitlines()
        ticks = [line.split() for line in lines if line.startswith("cpu")]
        idle = sum(int(one[4]) + int(one[5]) for one in ticks if one[0] in own)
    except (OSError, AttributeError, ValueError, IndexError):
        return 0.0
    return idle / os.sysconf("SC_CLK_TCK")
