"""Which caller runs on which cores: disjoint sets of them, from the topology that the system tells.

Cores are physical: both hardware threads of one go to the same caller.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from inferload.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Sequence

_CPUS = Path("/sys/devices/system/cpu")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Cpu:
    """A hardware thread: the node and the core it belongs to, and its number."""

    node: int
    core: tuple[int, int]
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one process runs: ``cpus[caller]``, the memory node, and the intra-op threads that fit.

    ``cpus`` is empty, and the others are ``None``, where nothing is held to anything.
    """

    cpus: tuple[tuple[int, ...], ...] = ()
    node: int | None = None
    threads_per_call: int | None = None


def places(pin: str, cpus: Sequence[Cpu], processes: int, callers: int) -> list[Place]:
    """A place for each process, of so many callers.

    ``"cores"``: each process has cores of its own, as many as all others, and each caller some of
    them, if there are enough. ``"numa"``: each process has a node, in turn.

    Raises:
        PlanError: there are fewer cores than processes.
    """
    if pin == "none":
        return [Place()] * processes
    ordered = sorted(cpus)
    nodes = {node: list(group) for node, group in groupby(ordered, key=lambda cpu: cpu.node)}
    if pin == "numa":
        names = list(nodes)
        found = []
        for number in range(processes):
            node = names[number % len(names)]
            own = _numbers(nodes[node])
            found.append(Place(cpus=(own,) * callers, node=node if len(names) > 1 else None))
        return found
    cores = [list(group) for _, group in groupby(ordered, key=lambda cpu: (cpu.node, cpu.core))]
    each = len(cores) // processes
    if each == 0:
        raise PlanError(
            f"{processes} processes cannot have cores of their own, there are {len(cores)}: ask "
            "for fewer processes, or for --pin none"
        )
    return [
        _with_cores(cores[number * each : (number + 1) * each], callers, len(nodes))
        for number in range(processes)
    ]


def _with_cores(cores: list[list[Cpu]], callers: int, nodes: int) -> Place:
    """A process on these cores; callers share them all where there are fewer than callers."""
    each = len(cores) // callers
    own_nodes = {cpu.node for core in cores for cpu in core}
    node = own_nodes.pop() if len(own_nodes) == 1 and nodes > 1 else None
    if each == 0:
        shared = _numbers([cpu for core in cores for cpu in core])
        return Place(cpus=(shared,) * callers, node=node, threads_per_call=1)
    cpus = tuple(
        _numbers([cpu for core in cores[caller * each : (caller + 1) * each] for cpu in core])
        for caller in range(callers)
    )
    return Place(cpus=cpus, node=node, threads_per_call=each)


def _numbers(cpus: Sequence[Cpu]) -> tuple[int, ...]:
    return tuple(sorted(cpu.number for cpu in cpus))


def usable_cpus(folder: Path = _CPUS) -> list[Cpu]:
    """The hardware threads in this process's affinity mask, with their place in the machine.

    Raises:
        PlanError: this system has no such masks.
    """
    if not hasattr(os, "sched_getaffinity"):
        raise PlanError("callers can be held to cores on Linux only: leave --pin out")
    return [
        Cpu(node=_node(folder / f"cpu{number}"), core=_core(folder, number), number=number)
        for number in sorted(os.sched_getaffinity(0))
    ]


def memory_nodes() -> int:
    """How many NUMA nodes the usable cores belong to; 1 where the system does not say."""
    return len({cpu.node for cpu in usable_cpus()}) if hasattr(os, "sched_getaffinity") else 1


def _core(folder: Path, number: int) -> tuple[int, int]:
    topology = folder / f"cpu{number}" / "topology"
    try:
        package, core = (
            int((topology / name).read_text()) for name in ("physical_package_id", "core_id")
        )
    except (OSError, ValueError):
        return 0, number  # not told: each is a core of its own
    return package, core


def _node(folder: Path) -> int:
    """The NUMA node of a hardware thread, 0 where the system does not say."""
    try:
        names = [one.name for one in folder.iterdir()]
    except OSError:
        return 0
    found = [int(match[1]) for name in names if (match := re.fullmatch(r"node(\d+)", name))]
    return found[0] if found else 0
