"""The energy that processors take, by the kernel's counters (powercap, RAPL)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from inferload.machine.gpu_samples import joules_between
from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from typing_extensions import Self

POWERCAP = Path("/sys/class/powercap")
# How far looks that are kept are apart; of more than so many, every second one is dropped and they
# come half as often. It is even, so that of one more than that the first and the last stay.
PERIOD_S = 0.1
MOST_SAMPLES = 4096


class CpuEnergy:
    """Adds up what the processors' packages take while it is entered, by the kernel's powercap.

    The whole packages, whoever used them, and without most of the memory. Counters wrap, in a
    minute at the least: ``look`` is to be called more often than that.
    """

    def __init__(self, root: Path = POWERCAP) -> None:
        #: The start line by ``time.perf_counter_ns``, to which ``between`` refers.
        self.start_ns = time.perf_counter_ns()
        #: Why nothing is known.
        self.trouble: str | None = None
        self._root = root
        self._packages: list[_Package] = []
        self._joules = 0.0
        self._looks: list[tuple[int, float]] = []
        self._period_ns = round(PERIOD_S * NS_PER_S)

    def __enter__(self) -> Self:
        try:
            self._packages = [_Package(folder) for folder in _package_folders(self._root)]
        except (OSError, ValueError) as error:
            self._give_up(error)
        else:
            if not self._packages:
                self.trouble = f"the kernel counts no energy of processors in {self._root}"
            self.look()
        return self

    def __exit__(self, *_: object) -> None:
        self.look()
        if self._packages and not self._joules:
            self.trouble = f"the counters of energy in {self._root} stand still"

    def look(self) -> None:
        """Read the counters; every so often it is kept, and the newest always is."""
        if not self._packages:
            return
        try:
            self._joules += sum(package.risen_uj() for package in self._packages) / 1e6
        except (OSError, ValueError) as error:
            self._give_up(error)
            return
        now_ns = time.perf_counter_ns()
        if len(self._looks) > 1 and now_ns - self._looks[-2][0] < self._period_ns:
            self._looks.pop()
        self._looks.append((now_ns, self._joules))
        if len(self._looks) > MOST_SAMPLES:
            self._period_ns *= 2
            del self._looks[1::2]

    @property
    def joules(self) -> float | None:
        """What all packages took until the last look; ``None`` if that is not known."""
        return self._joules if self._packages and self._joules else None

    @property
    def looks(self) -> tuple[tuple[float, float], ...]:
        """Pairs of a time in seconds from the start line, and what all packages took by then."""
        return tuple(
            ((time_ns - self.start_ns) / NS_PER_S, joules) for time_ns, joules in self._looks
        )

    def between(self, from_s: float, to_s: float) -> float | None:
        """What all packages took between two times, as ``energy_between`` has it of a GPU."""
        return joules_between(self.looks, from_s, to_s)

    def _give_up(self, error: Exception) -> None:
        self._packages = []
        self.trouble = (
            f"{error.filename} can only be read by root"
            if isinstance(error, PermissionError)
            else f"the energy of processors cannot be read: {error}"
        )


class _Package:
    """The counter of one processor package, which wraps."""

    def __init__(self, folder: Path) -> None:
        self._counter = folder / "energy_uj"
        self._range_uj = _number(folder / "max_energy_range_uj")
        self._last_uj = _number(self._counter)

    def risen_uj(self) -> int:
        """By how much it rose since it was last read."""
        now_uj = _number(self._counter)
        risen_uj = now_uj - self._last_uj
        self._last_uj = now_uj
        return risen_uj if risen_uj >= 0 else risen_uj + self._range_uj


def _number(file: Path) -> int:
    return int(file.read_text(encoding="ascii"))


def _package_folders(root: Path) -> list[Path]:
    """The zones of whole packages, of AMD's processors too.

    Beside them lie their parts (intel-rapl:0:1, named core or dram), the same packages read by
    another way (intel-rapl-mmio:0) and the whole platform with them in it (named psys).
    """
    return [
        folder
        for folder in sorted(root.glob("intel-rapl:*"))
        if (folder / "name").read_text(encoding="ascii").startswith("package")
    ]
