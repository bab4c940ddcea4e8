"""What the control groups of this process grant it, and whether they hold it back.

A limit may be set on the process's own group or on any above it.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def folders() -> list[Path]:
    """The folders of the groups with this process's CPU limits, its own first (cgroups(7))."""
    found = []
    for line in _text(OWN).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = ROOT / controllers if controllers else ROOT
        if controllers and not top.is_dir():
            top = ROOT / "cpu"
        own = top / path.strip("/")
        # within a container the path may be that of the host, which is not to be seen
        found += [own, *[one for one in own.parents if one.is_relative_to(top)]]
    return [one for one in dict.fromkeys(found or [ROOT, ROOT / "cpu"]) if one.is_dir()]


def quota_cores() -> float | None:
    """The CPU quota in cores (``cpu.max``, or v1's ``cpu.cfs_quota_us``), or ``None``."""
    quotas = []
    for folder in folders():
        granted, _, each = _text(folder / "cpu.max").strip().partition(" ")
        granted = granted or _text(folder / "cpu.cfs_quota_us").strip()
        each = each or _text(folder / "cpu.cfs_period_us").strip()
        if granted.isdigit() and each.isdigit() and int(each):
            quotas.append(int(granted) / int(each))
    return min(quotas, default=None)


def throttled_s() -> float | None:
    """How long quotas have held this process's groups back so far, in seconds, or ``None``."""
    found = []
    for folder in folders():
        lines = _text(folder / "cpu.stat").splitlines()
        words = dict(line.split(maxsplit=1) for line in lines if " " in line)
        for key, scale in (("throttled_usec", 1e6), ("throttled_time", 1e9)):
            if key in words:
                found.append(int(words[key]) / scale)
    return sum(found) if found else None


def out_of_memory_kills() -> int:
    """How many processes the kernel has killed for want of memory, machine and groups together."""
    found = [_text(Path("/proc/vmstat")), *[_text(one / "memory.events") for one in folders()]]
    words = [line.split() for text in found for line in text.splitlines()]
    return sum(int(pair[1]) for pair in words if len(pair) == 2 and pair[0] == "oom_kill")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
