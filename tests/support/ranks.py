"""Ranks of a cluster that are simulated: what each leaves behind, from calls that are known."""

from __future__ import annotations

import numpy as np

from inferload.callers.crew import PartReport, Preparation
from inferload.callers.outcome import Outcome
from inferload.log.calls import COLUMNS, CallLog
from inferload.log.failures import CallFailure
from inferload.machine.disturbances import Disturbances
from inferload.records.spec import RunSpec
from inferload.runs.execution import Execution, ProcessRecord
from inferload.stats.process_calls import CallsOfLog

SPEC = RunSpec(
    target="Simulated",
    form="eager",
    executor="threads",
    load="open loop, poisson",
    callers=2,
    drain_s=30.0,
    calls=None,
    duration_s=10.0,
    warmup_calls=10,
    threads_per_call=1,
    inputs=("1:float32",) * 3,
    items_per_input=(1, 2, 4),
    share_inputs=False,
    seed=0,
    on_error="record",
    grad_mode="inference",
    autocast="off",
)


def simulated_log(
    rank: int, calls: int, *, median_ms: float = 2.0, seconds: float = 10.0
) -> CallLog:
    """Calls of one rank: due at random, some wait for a caller, one in a thousand fails."""
    generator = np.random.default_rng([7, rank])
    scheduled = np.sort(generator.uniform(0, seconds * 1e9, calls))
    started = scheduled + generator.exponential(2e5, calls) * (generator.random(calls) < 0.3)
    finished = started + median_ms * 1e6 * generator.lognormal(0.0, 0.3, calls)
    columns = {
        "scheduled_ns": scheduled,
        "started_ns": started,
        "finished_ns": finished,
        "caller": generator.integers(0, SPEC.callers, calls),
        "input": generator.integers(0, len(SPEC.inputs), calls),
        "error": np.where(generator.random(calls) < 1e-3, 0, -1),
    }
    return CallLog(
        **{name: columns[name].astype(dtype) for name, dtype in COLUMNS.items()},
        errors=(CallFailure(type="ValueError", message=f"of {rank % 2}"),),
        callers_by_lane=(SPEC.callers,),
        open_loop=True,
    )


def execution_of(log: CallLog, **changes: object) -> Execution:
    """What a rank of one process leaves behind whose calls these are."""
    ready = Preparation(
        pid=1,
        spec=SPEC,
        environment={"cpu": "simulated", "cores": 2, "usable_cores": 2.0, "torch": "2"},
        warnings=(),
        prepare_s=1.0,
    )
    outcome = Outcome(
        claimed_rows=len(log),
        first_calls_ns=((3, 2, 1), (9, 2)),
        errors=log.errors,
        first_failure=None,
        disk_full=False,
        cpus=((0,), (1,)),
        threads=(1, 1),
    )
    process = ProcessRecord(
        number=0,
        ready=ready,
        reports=[PartReport(outcome=outcome)],
        calls=CallsOfLog(log),
        memory=None,
    )
    fields: dict[str, object] = {
        "processes": [process],
        "log": log,
        "open_s": 0.1,
        "warnings": (),
        "abandoned": False,
        "due_calls": log.calls_made,
        "due_s": 10.0,
        "stopped_s": None,
        "looks": [[(0.03 * look, 1.0 + look % 2) for look in range(300)]],
        "hung": (),
        "never_ready": False,
        "nursery_pss_bytes": None,
        "disturbances": Disturbances(steal_fraction=0.001, gc_pauses=1),
    }
    return Execution(**(fields | changes))
