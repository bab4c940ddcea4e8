"""What checks of a run look at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from inferload.log.failures import CallFailure
    from inferload.machine.disturbances import Disturbances
    from inferload.records.figures import (
        ProcessFigures,
        RankFigures,
        SteadyState,
        Summary,
        Verification,
    )
    from inferload.records.server import ServerFigures
    from inferload.records.spec import RunSpec
    from inferload.records.stages import LoadStage

#: The code of a warning, its message, and what to do.
Texts: TypeAlias = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The figures of a run that is over.

    ``made_calls`` and ``failed_calls`` are of the whole run, also of what was cut off; ``errors``
    are the distinct exceptions. ``floor_ms``: what the harness takes of a call. ``run_delay_s``:
    how long all callers together stood in run queues. ``cut_short``: the run ended before its end.
    ``widths_when_ended``: half of the intervals that ended a run by precision, as fractions.
    ``loop_lag_ms``: how late the event loop of tasks was, the median and the most.
    ``machines``: the environment of the callers, by the name of their machine.
    """

    spec: RunSpec
    summary: Summary
    steady: SteadyState
    disturbances: Disturbances
    made_calls: int
    failed_calls: int = 0
    errors: Sequence[CallFailure] = ()
    floor_ms: float | None = None
    run_delay_s: float = 0.0
    loop_lag_ms: tuple[float, float] | None = None
    recompiled_graphs: int = 0
    cut_short: bool = False
    load_stages: Sequence[LoadStage] = ()
    widths_when_ended: Mapping[str, float] = field(default_factory=dict)
    disk_full: bool = False
    log_was_full: bool = False
    on_device: bool = False
    verification: Verification | None = None
    processes: Sequence[ProcessFigures] = ()
    ranks: Sequence[RankFigures] = ()
    machines: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    servers: tuple[ServerFigures, ...] = ()
