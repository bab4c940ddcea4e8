"""The result of a run: every report is drawn from this alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from inferload.records.devices import DeviceFigures
from inferload.records.figures import (
    ModelFigures,
    ProcessFigures,
    RankFigures,
    RunWarning,
    SetUp,
    SteadyState,
    Summary,
    Verification,
)
from inferload.records.limits import LimitVerdict
from inferload.records.server import FailureFigures, ServerFigures
from inferload.records.shown import Saved
from inferload.records.spec import RunSpec
from inferload.records.stages import LoadStage

if TYPE_CHECKING:
    from inferload.log.calls import CallLog


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult(Saved):
    """All that is known about one run; every report is drawn from this alone.

    ``status`` is ``"complete"``, ``"failed"`` (the target raised and ended the run), ``"crashed"``
    (it ended its process), ``"rank lost"`` (of a cluster), ``"timed out"`` (a call did not return)
    or ``"interrupted"`` (Ctrl-C or SIGTERM). ``environment`` maps names to JSON values, those of
    the first rank. ``load_stages``: of a load whose rate changes, which is not asked whether it is
    ``steady``. ``limits``: whether those that it was given are kept; one that is broken may have
    ended it. ``failures``: calls that failed, by their class, the most frequent one first.
    ``servers``: what was seen of those in ``spec.servers``. ``cpu_energy_j``: what the processor
    packages took over the measured part, where the system lets it be read. ``made_by``: the command
    line that made it; ``None`` in Python.
    """

    run_id: str
    created_at: str
    status: str
    spec: RunSpec
    environment: dict[str, Any]
    set_up: SetUp
    summary: Summary
    warnings: tuple[RunWarning, ...]
    steady: SteadyState | None = None
    load_stages: tuple[LoadStage, ...] = ()
    limits: tuple[LimitVerdict, ...] = ()
    verification: Verification | None = None
    processes: tuple[ProcessFigures, ...] = ()
    ranks: tuple[RankFigures, ...] = ()
    models: tuple[ModelFigures, ...] = ()
    devices: tuple[DeviceFigures, ...] = ()
    failures: tuple[FailureFigures, ...] = ()
    servers: tuple[ServerFigures, ...] = ()
    cpu_energy_j: float | None = None
    made_by: str | None = None
    log: CallLog = field(repr=False)
