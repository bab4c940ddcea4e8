"""What callers should know of their inputs: which are shared, and which calls change."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from inferload.input_changes import Comparing
from inferload.input_state import marked
from inferload.inputs import uncopied_of
from inferload.plan.options import FRESH_INPUTS
from inferload.records.figures import RunWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferload.executors.base import Job
    from inferload.input_changes import Change
    from inferload.inputs import CallInput
    from inferload.targets.base import Target

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
            found = _change(comparing, was, now, but_tensors=but_tensors)
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


def as_it_was(given: CallInput, own: CallInput) -> CallInput:
    """An input to compare with when calls have had ``own``, its copy as far as it can be copied."""
    args, kwargs = marked(
        (tuple(given.args), dict(given.kwargs)), (tuple(own.args), dict(own.kwargs))
    )
    return replace(given, args=args, kwargs=kwargs)


def written_argument(target: Target, number: int, was: CallInput, now: CallInput) -> str | None:
    """Which argument of an input a call wrote to or read up, in words."""
    found = _change(Comparing(), was, now)
    return None if found is None else argument_name(target, number, found.argument)


def used_up(target: Target, number: int, was: CallInput, now: CallInput) -> str | None:
    """Which argument that all calls share, since it cannot be copied, a call read, in words."""
    found = _change(Comparing(), was, now)
    if found is None or not found.shared:
        return None
    return f"{argument_name(target, number, found.argument)} ({found.type_name})"


def _change(
    comparing: Comparing, was: CallInput, now: CallInput, *, but_tensors: bool = False
) -> Change | None:
    return comparing.change(
        (tuple(was.args), was.kwargs), (tuple(now.args), now.kwargs), but_tensors=but_tensors
    )


def argument_name(target: Target, number: int, place: int | str) -> str:
    """An argument in words, by its name where the model tells that."""
    if isinstance(place, str):
        return f"argument {place!r}"
    try:
        names = _names(target.callable_for(number))
    except Exception:  # noqa: BLE001 - a model's own class, which need not have a signature
        names = []
    return f"argument {names[place]!r}" if place < len(names) else f"argument {place}"


def _names(function: Callable[..., Any]) -> list[str]:
    """The names of positional arguments."""
    owner = getattr(function, "__self__", function)
    function = getattr(owner, "_orig_mod", function)
    owner = getattr(function, "__self__", function)
    if isinstance(owner, torch.jit.ScriptModule):
        schema = owner._c._get_method("forward").schema  # noqa: SLF001
        return [one.name for one in schema.arguments[1:]]
    if isinstance(owner, torch.nn.Module):
        function = owner.forward
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return [one.name for one in parameters if one.kind in kinds]
