"""What the callers of a lane left behind: outcome, outputs against references, changed inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferload.callers.crew import PartReport
from inferload.callers.local.changed_inputs import changed_inputs
from inferload.records.figures import RunWarning, Verification
from inferload.units import NS_PER_MS

if TYPE_CHECKING:
    from inferload.callers.local.lane import LocalLane
    from inferload.callers.outcome import Outcome
    from inferload.targets.base import Target
    from inferload.targets.outputs.verification import References


def report_of(
    lane: LocalLane,
    target: Target,
    references: References | None,
    *,
    whole: bool,
    abandoned: bool,
) -> PartReport:
    """The report of one lane; ``whole``: it is the only one of ``target``, of all its models."""
    outcome = lane.outcome()
    # callers that were given up may be writing still
    changes = [] if abandoned or not lane.job.given else changed_inputs(lane.job)
    verification, by_model = None, []
    if references is not None:
        verification = lane.verification(references, alone=not abandoned)
        for share in target.shares():
            own = range(share.first_input, share.first_input + share.inputs)
            mine = whole or share.first_input == lane.place.first_input
            by_model.append(
                lane.verification(references, own, alone=not abandoned)
                if mine
                else Verification(compared=0, differing=0)
            )
    return PartReport(
        outcome=outcome,
        first_call_ms=_first_call_ms(lane, outcome),
        warnings=(*lane.target.run_warnings(lane.job.callers), *changes, *_halved(lane, outcome)),
        verification=verification,
        verification_by_model=tuple(by_model),
    )


def _halved(lane: LocalLane, outcome: Outcome) -> list[RunWarning]:
    """That there was no memory for batches of some size."""
    most = outcome.batches_limited_to
    if most is None:
        return []
    failed = "there was no memory for a batch, whose requests failed"
    if lane.job.stop_on_error:  # nobody tried smaller ones
        message = f"{failed}, and which ended the run"
        hint = "--on-error record goes on with half of its requests, and says what has room"
    else:
        message = f"{failed}, and no batch had more than {most:,} requests from then on"
        hint = f"--max-batch {most}, or fewer callers, has room"
    return [RunWarning(code="batches-halved", message=message, hint=hint)]


def _first_call_ms(lane: LocalLane, outcome: Outcome) -> float | None:
    """The target's very first call, where it was made apart or as a warm-up call."""
    if lane.target.first_call_ms is not None:
        return lane.target.first_call_ms
    firsts = [first[0] for first in outcome.first_calls_ns if first]
    return max(firsts) / NS_PER_MS if firsts else None
