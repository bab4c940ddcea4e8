"""What the devices and processors of one machine did during a run, as data that can be sent."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inferload.machine.cpu_energy import CpuEnergy
from inferload.machine.gpu_samples import joules_between
from inferload.machine.gpu_watch import GpuWatch
from inferload.records.devices import GpuSamples  # noqa: TC001 - pydantic reads these records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

    from inferload.records.devices import DeviceInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """What was seen on one machine, timed from the start line.

    ``cpu_joules`` are pairs of a time in seconds and what the processor packages had taken by then;
    ``trouble``: why nothing is known of GPUs, or not of all.
    """

    gpus: tuple[GpuSamples, ...] = ()
    cpu_joules: tuple[tuple[float, float], ...] = ()
    trouble: str | None = None

    def cpu_energy_j(self, from_s: float, to_s: float) -> float | None:
        """What the processor packages took between two times; ``None`` if that is not known."""
        return joules_between(self.cpu_joules, from_s, to_s)


class RunTelemetry:
    """Looks at GPUs and processors while it is entered; never raises."""

    def __init__(self, devices: Sequence[DeviceInfo], *, wanted: bool) -> None:
        gpus = [one for one in devices if one.device.startswith("cuda")]
        self._gpus = GpuWatch(gpus if wanted else [])
        self._cpus = CpuEnergy() if wanted else None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self._gpus)
        if self._cpus is not None:
            self._stack.enter_context(self._cpus)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def begin(self, start_ns: int) -> None:
        """The start line, to which all times refer."""
        self._gpus.start_ns = start_ns
        if self._cpus is not None:
            self._cpus.start_ns = start_ns

    def look(self) -> None:
        """Read the counters that have to be read every now and then."""
        if self._cpus is not None:
            self._cpus.look()

    @property
    def found(self) -> Telemetry:
        """What was seen."""
        return Telemetry(
            gpus=self._gpus.samples,
            cpu_joules=() if self._cpus is None else self._cpus.looks,
            trouble=self._gpus.trouble,
        )
