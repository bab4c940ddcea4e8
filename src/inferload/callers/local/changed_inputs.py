"""What callers should know of their inputs: which are shared, and which calls change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferload.plan.options import FRESH_INPUTS
from inferload.records.figures import RunWarning
from inferload.targets.argument_changes import argument_name, change_of
from inferload.targets.inputs.call_input import uncopied_of
from inferload.targets.inputs.changes import Comparing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.callers.job import Job
    from inferload.targets.base import Target
    from inferload.targets.inputs.call_input import CallInput
    from inferload.targets.inputs.changes import Change

_NO_COPY = (
    "it cannot be copied, so all calls have the same: pass what it is made of (a path, bytes, a "
    "list), and make it within the model"
)


def shared_inputs(target: Target, given: Sequence[CallInput]) -> list[RunWarning]:
    """Tell of arguments that all callers share, because they cannot be copied."""
    found: dict[tuple[str, str], RunWarning] = {}
    for number, one in enumerate(given):
        for part in uncopied_of(one):
            name = argument_name(target, number, part.argument)
            found.setdefault(
                (name, part.type_name),
                RunWarning(
                    code="input-shared",
                    message=(
                        f"{name} of input {number} has a {part.type_name} that cannot be copied "
                        f"({part.why}): all callers share it"
                    ),
                    hint=(
                        "a __deepcopy__ of its class makes copies; or make it within the model, "
                        "of what can be copied"
                    ),
                ),
            )
    return list(found.values())


def changed_inputs(job: Job) -> list[RunWarning]:
    """Tell of inputs that calls have changed, once all callers have ended.

    The first caller's inputs are compared with what they were, and those of others until 256 MiB
    have been looked at.
    """
    comparing = Comparing()
    # with transfers, tensors are written to before each call
    but_tensors = job.device_work is not None and job.device_work.transfers
    first: tuple[int, Change] | None = None
    changed: set[int] = set()
    for own in job.inputs[:1] if len(set(map(id, job.inputs))) == 1 else job.inputs:
        for number, (was, now) in enumerate(zip(job.given, own, strict=True)):
            found = change_of(comparing, was, now, but_tensors=but_tensors)
            if found is not None:
                changed.add(number)
                first = first or (number, found)
        if comparing.left_bytes <= 0:
            break
    if first is None:
        return []
    number, change = first
    name = argument_name(job.target, number, change.argument)
    more = f"; so do {len(changed) - 1:,} other inputs" if len(changed) > 1 else ""
    return [
        RunWarning(
            code="input-changes",
            message=(
                f"input {number} changes from call to call: {name} ({change.type_name}) "
                f"{change.how}{more}"
            ),
            hint=_NO_COPY if change.shared else FRESH_INPUTS,
        )
    ]
