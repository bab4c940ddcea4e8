"""What a process is told when it is started, and what it and its starter say to each other."""

from __future__ import annotations

import os
from dataclasses import dataclass
from multiprocessing import reduction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection
    from pathlib import Path

    from inferload.plan.model import ModelSource
    from inferload.plan.options import RunOptions

# What a process says: (STAGE, text), (PREPARED, Preparation), (WARMED, calls made, of how many),
# (READY, the optional columns of the lanes' logs), (DONE, a list of the lanes'
# PartReports, a list of their pickled exceptions or None), (ERROR, name of the class, text).
STAGE, PREPARED, WARMED, READY, DONE, ERROR = (
    "stage",
    "prepared",
    "warmed",
    "ready",
    "done",
    "error",
)
# What it is told: (START,), (RELEASE, time), (STOP,), (END_AT, lane, rows), (FOLD_TO, lane, rows),
# (GIVE_UP,).
START, RELEASE, STOP, END_AT, FOLD_TO, GIVE_UP = (
    "start",
    "release",
    "stop",
    "end at",
    "fold to",
    "give up",
)


class Descriptor:
    """A file descriptor that goes along when a process is started."""

    def __init__(self, fileno: int) -> None:
        self.fileno = fileno

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (reduction.DupFd(self.fileno),)


def _received(duplicate: Any) -> Descriptor:
    return Descriptor(duplicate.detach())


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedLog:
    """A log file that the starter made, for the process that writes it."""

    file: Descriptor
    rows: int
    room: int
    reserved_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The work of one process, the ``process``-th of the ``processes`` of its crew.

    ``source`` is ``None`` where the model comes by ``handed`` alone. ``hands_to``: the processes
    that this one gives the model to. ``logs`` are those of its lanes. ``cpus[caller]``: the cores
    of each caller; ``node``: the NUMA node whose memory the process is bound to, ``first_node``
    that of the first process. ``scratch``: a folder that outlives a crash.
    """

    process: int
    options: RunOptions
    source: ModelSource | None
    logs: Sequence[SharedLog]
    budget: Descriptor | None
    handed: Connection | None
    hands_to: Sequence[Connection]
    cpus: tuple[tuple[int, ...], ...]
    node: int | None
    first_node: int | None
    usable_cores: float
    scratch: Path
    processes: int

    @property
    def bound(self) -> bool:
        """Whether it is to certain cores, or to the memory of a node."""
        return any(self.cpus) or self.node is not None

    def let_go(self) -> None:
        """Close what came along: this is the work of another process."""
        for descriptor in (*[log.file for log in self.logs], self.budget):
            if descriptor is not None:
                os.close(descriptor.fileno)
        for end in (self.handed, *self.hands_to):
            if end is not None:
                end.close()
