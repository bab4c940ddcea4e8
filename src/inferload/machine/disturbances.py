"""What else went on in this process and on this machine while calls were measured."""

from __future__ import annotations

import gc
import statistics
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inferload.machine.cgroups import throttled_s

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

HEARTBEAT_S = 0.02
_ASK_S = 0.001
_FEWEST_ASKED = 8
# What it takes at least until another thread has let the GIL go, and this one runs.
_HANDOVER_S = 20e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbances:
    """Figures of the measured part; ``None`` where the system or the executor does not say.

    ``steal_fraction``: of the time of all cores, what the hypervisor gave to others.
    ``throttled_s``: how long a cgroup quota held this process back. ``gil_wait_ms``: how late a
    Python thread that sleeps got the GIL back, the median.
    """

    steal_fraction: float | None = None
    throttled_s: float | None = None
    gc_pauses: int = 0
    gc_total_ms: float = 0.0
    gc_longest_ms: float = 0.0
    gil_wait_ms: float | None = None


class MachineWatch:
    """Looks at what the machine gave to others while it is entered."""

    def __init__(self) -> None:
        self.steal_fraction: float | None = None
        self.throttled_s: float | None = None
        self._before: tuple[tuple[int, int] | None, float | None] = (None, None)

    def __enter__(self) -> Self:
        self._before = (stolen_and_total(), throttled_s())
        return self

    def __exit__(self, *_: object) -> None:
        ticks, held_back = self._before
        self.steal_fraction = steal_fraction(ticks, stolen_and_total())
        now = throttled_s()
        if now is not None and held_back is not None:
            self.throttled_s = now - held_back


class PythonWatch:
    """Looks at the garbage collector and the GIL of this process while it is entered.

    ``python_callers``: both matter, because callers run Python; else nothing is done.
    """

    def __init__(self, *, python_callers: bool) -> None:
        self._python_callers = python_callers
        self._pauses_ms: list[float] = []
        self._gc_began = 0.0
        self._late_ms: list[float] = []
        self._over = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        if self._python_callers:
            gc.callbacks.append(self._on_gc)
            self._heart.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._python_callers:
            self._over.set()
            gc.callbacks.remove(self._on_gc)

    @property
    def found(self) -> Disturbances:
        """What was found."""
        return Disturbances(
            gc_pauses=len(self._pauses_ms),
            gc_total_ms=sum(self._pauses_ms),
            gc_longest_ms=max(self._pauses_ms, default=0.0),
            gil_wait_ms=statistics.median(self._late_ms) if len(self._late_ms) >= 5 else None,
        )

    def _on_gc(self, phase: str, info: dict[str, Any]) -> None:
        del info
        if phase == "start":
            self._gc_began = time.perf_counter()
        else:
            self._pauses_ms.append((time.perf_counter() - self._gc_began) * 1e3)

    def _beat(self) -> None:
        while not self._over.is_set():
            due = time.perf_counter() + HEARTBEAT_S
            time.sleep(HEARTBEAT_S)
            self._late_ms.append((time.perf_counter() - due) * 1e3)


class GilWatch:
    """A thread that sleeps and asks for the GIL again and again while it is entered.

    Where nobody holds the GIL it is late by the same each time, what the machine's timers take.
    """

    def __init__(self) -> None:
        self._late_s: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="gil-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def waits(self) -> float | None:
        """How often it was late by more than a handover, as a share; ``None``: it is not known."""
        if len(self._late_s) < _FEWEST_ASKED:
            return None
        timers_s = sorted(self._late_s)[len(self._late_s) // 20]
        return sum(one > timers_s + _HANDOVER_S for one in self._late_s) / len(self._late_s)

    def _ask(self) -> None:
        while not self._over.is_set():
            due = time.perf_counter() + _ASK_S
            time.sleep(_ASK_S)
            self._late_s.append(time.perf_counter() - due)


def together(machine: MachineWatch, processes: Sequence[Disturbances]) -> Disturbances:
    """The disturbances of a run: sums over its processes, and the worst of them."""
    waits = [one.gil_wait_ms for one in processes if one.gil_wait_ms is not None]
    return Disturbances(
        steal_fraction=machine.steal_fraction,
        throttled_s=machine.throttled_s,
        gc_pauses=sum(one.gc_pauses for one in processes),
        gc_total_ms=max((one.gc_total_ms for one in processes), default=0.0),
        gc_longest_ms=max((one.gc_longest_ms for one in processes), default=0.0),
        gil_wait_ms=max(waits, default=None),
    )


def stolen_and_total() -> tuple[int, int] | None:
    """Ticks that the hypervisor gave to others, and all ticks, of all cores (proc(5), stat)."""
    try:
        ticks = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
        return ticks[7], sum(ticks[:8])
    except (OSError, IndexError, ValueError):
        return None


def steal_fraction(before: tuple[int, int] | None, after: tuple[int, int] | None) -> float | None:
    """The stolen fraction of the time between two looks."""
    if before is None or after is None or after[1] <= before[1]:
        return None
    return (after[0] - before[0]) / (after[1] - before[1])
