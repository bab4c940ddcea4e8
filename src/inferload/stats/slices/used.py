"""What a process used of the machine for a while: cores, pages, switches."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """By all threads of a process, also by such as have ended.

    ``wall_s``: by the monotonic clock. ``cpu_s``: the time on cores, ``system_s`` of it in the
    kernel. ``faults``: pages that were made or found without reading a disk, ``read_faults`` with.
    ``gave_up``: how often a thread left its core because it waited, ``lost`` because another had to
    run. ``idle_s``: for how long the cores that it may use had no work at all, together.
    """

    wall_s: float
    cpu_s: float = 0.0
    system_s: float = 0.0
    faults: int = 0
    read_faults: int = 0
    gave_up: int = 0
    lost: int = 0
    idle_s: float = 0.0

    def since(self, before: Used) -> Used:
        """What was used since a look before."""
        return self._with(before, -1)

    def plus(self, other: Used) -> Used:
        """Both together."""
        return self._with(other, 1)

    def for_(self, wall_s: float) -> Used:
        """The same, of another length: what several processes used at once."""
        return replace(self, wall_s=wall_s)

    def _with(self, other: Used, sign: int) -> Used:
        names = [one.name for one in fields(self)]
        return Used(**{one: getattr(self, one) + sign * getattr(other, one) for one in names})
