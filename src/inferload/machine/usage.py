"""What this process has used of the machine so far (getrusage(2))."""

from __future__ import annotations

import resource
import time

from inferload.stats.slices.used import Used


def used_so_far() -> Used:
    """Since this process has begun."""
    found = resource.getrusage(resource.RUSAGE_SELF)
    return Used(
        wall_s=time.monotonic(),
        cpu_s=found.ru_utime + found.ru_stime,
        system_s=found.ru_stime,
        faults=found.ru_minflt,
        read_faults=found.ru_majflt,
        gave_up=found.ru_nvcsw,
        lost=found.ru_nivcsw,
    )
