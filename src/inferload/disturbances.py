"""What else went on in this process and on this machine while calls were measured."""

from __future__ import annotations

import gc
import statistics
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inferload.cgroups import throttled_s

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

HEARTBEAT_S = 0.02


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


class DisturbanceWatch:
    """Looks for disturbances while it is entered.

    ``python_callers``: garbage collection and the GIL matter, because callers run Python.
    """

    def __init__(self, *, python_callers: bool) -> None:
        self.found = Disturbances()
        self._python_callers = python_callers
        self._pauses_ms: list[float] = []
        self._gc_began = 0.0
        self._late_ms: list[float] = []
        self._over = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._before: tuple[tuple[int, int] | None, float | None] = (None, None)

    def __enter__(self) -> Self:
        self._before = (stolen_and_total(), throttled_s())
        if self._python_callers:
            gc.callbacks.append(self._on_gc)
            self._heart.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._python_callers:
            self._over.set()
            gc.callbacks.remove(self._on_gc)
        before, after = self._before[0], stolen_and_total()
        throttled = throttled_s()
        self.found = Disturbances(
            steal_fraction=steal_fraction(before, after),
            throttled_s=None
            if throttled is None or self._before[1] is None
            else throttled - self._before[1],
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
