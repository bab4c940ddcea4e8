"""The machine a run is on, as the system describes it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import psutil

from inferload.machine.cgroups import quota_cores

CPUS = Path("/sys/devices/system/cpu")
BOOST = Path("/sys/devices/system/cpu/cpufreq/boost")
_NO_TURBO = Path("/sys/devices/system/cpu/intel_pstate/no_turbo")
TURBO_HINT = f"echo 0 > {BOOST} (or 1 > {_NO_TURBO}) for repeatable runs"


def usable_cores() -> float:
    """The cores this process may use: its affinity mask, or less where a cgroup quota says so."""
    cores = float(len(psutil.Process().cpu_affinity())) if hasattr(os, "sched_getaffinity") else 0.0
    cores = cores or float(os.cpu_count() or 1)
    quota = quota_cores()
    return min(cores, quota) if quota else cores


def largest_cache_bytes() -> float | None:
    """Of the first core, the largest cache (sysfs); ``None``: the system does not say."""
    folder = Path("/sys/devices/system/cpu/cpu0/cache")
    sizes = [first_line(one / "size") for one in folder.glob("index*")]
    units = {"K": 2**10, "M": 2**20}
    known = [
        float(one[:-1]) * units[one[-1]]
        for one in sizes
        if one and one[-1] in units and one[:-1].isdigit()
    ]
    return max(known, default=None)


def first_line(path: Path) -> str | None:
    """The first line of a file of the system, or ``None``."""
    try:
        return path.read_text().strip().splitlines()[0]
    except (OSError, IndexError):
        return None


def governor() -> str | None:
    """What sets the clock of the cores that this process may use; ``None``: it is not shown.

    Of cores that differ all are named, such as ``"performance, powersave"``.
    """
    numbers = psutil.Process().cpu_affinity() if hasattr(os, "sched_getaffinity") else [0]
    lines = [first_line(CPUS / f"cpu{number}/cpufreq/scaling_governor") for number in numbers]
    return ", ".join(sorted({line for line in lines if line is not None})) or None


def turbo() -> bool | None:
    """Whether cores may exceed their nominal clock; ``None``: the system does not say."""
    boost, no_turbo = first_line(BOOST), first_line(_NO_TURBO)
    return boost == "1" or no_turbo == "0" if boost or no_turbo else None


def cpu_model() -> str:
    """The processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
