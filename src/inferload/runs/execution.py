"""What a crew left behind of a run: its logs, and what is known of processes and ranks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from inferload.callers.crew import PartReport, Preparation
    from inferload.log.calls import CallLog
    from inferload.machine.disturbances import Disturbances
    from inferload.machine.telemetry import Telemetry
    from inferload.records.figures import CpuUse, Ending, MemoryUse, RunWarning
    from inferload.stats.process_calls import ProcessCalls


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRecord:
    """What one process of a run that has ended left behind.

    ``number`` is that among all processes of the run, on ``rank`` of a cluster. ``reports`` are
    those of its lanes.
    """

    number: int

    ready: Preparation
    reports: Sequence[PartReport]
    calls: ProcessCalls
    memory: MemoryUse | None
    cpu: CpuUse | None = None
    rank: int = 0

    @property
    def ending(self) -> Ending | None:
        """How it ended, where it was not asked to."""
        return self.reports[0].ending


@dataclass(frozen=True, slots=True, kw_only=True)
class RankRecord:
    """What one rank of a cluster left behind beside its processes; ``calls`` if it is not lost."""

    rank: int
    host: str
    calls: ProcessCalls | None = None
    late_ms: float = 0.0
    clock_error_ms: float = 0.0
    lost: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HungCall:
    """A call that took longer than the timeout; numbers are those within its process."""

    process: int
    caller: int
    input: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What a run that has ended left behind, on one machine or many.

    ``log`` is that of all processes. ``due_calls``: open loop, how many calls were due until it
    ended, in the time until ``due_s``. ``stopped_s``: when it was stopped before its end, from
    the start line. ``abandoned``: calls were given up that had not returned. ``hung``: the calls
    that took longer than the timeout; ``never_ready``: a warm-up call did. ``looks``: for each
    machine, pairs of a time and how many calls were due and not finished then. ``signals``: the
    names of the signals that ended it. ``ranks``: those of a cluster. ``telemetry``: what devices
    and processors did, for each rank. ``widths``: those at which a ``StopRule`` ended it.
    ``broken``: the limits that ended it, as they are written, each with when it was found broken
    and in which stage of its load.
    """

    processes: Sequence[ProcessRecord]
    log: CallLog
    open_s: float
    warnings: Sequence[RunWarning]
    abandoned: bool
    due_calls: int
    due_s: float | None
    stopped_s: float | None
    looks: Sequence[Sequence[tuple[float, float]]]
    hung: Sequence[HungCall]
    never_ready: bool
    nursery_pss_bytes: int | None
    disturbances: Disturbances
    signals: Sequence[str] = ()
    ranks: Sequence[RankRecord] = ()
    telemetry: Mapping[int, Telemetry] = field(default_factory=dict)
    widths: Mapping[str, float] = field(default_factory=dict)
    broken: Mapping[str, tuple[float, int | None]] = field(default_factory=dict)
