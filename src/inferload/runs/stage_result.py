"""What came of each stage of a load whose rate changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferload.plan.arrivals.stages import schedule_of_stages
from inferload.stats.load_stages import load_stages
from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from inferload.records.spec import RunSpec
    from inferload.records.stages import LoadStage
    from inferload.runs.execution import Execution


def stage_figures(done: Execution, spec: RunSpec, due_s: float | None) -> tuple[LoadStage, ...]:
    """The figures of each stage until the run ended, at ``due_s``; none of other loads.

    When calls were due is drawn again: from one seed the same.
    """
    if not spec.load_stages or spec.arrivals is None:
        return ()
    drawn = schedule_of_stages(
        spec.load_stages, spec.arrivals, spec.load_seed or 0, spec.calls, spec.duration_s
    )
    due_ns = drawn.times_ns[: done.due_calls]
    lasted_s = due_s or drawn.span_ns / NS_PER_S
    return load_stages(done.log, spec.load_stages, due_ns, lasted_s, spec.callers)
