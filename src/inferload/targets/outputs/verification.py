"""Whether a model computes the same under load as it does alone, and why not."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from inferload.errors import PlanError
from inferload.records.figures import Verification
from inferload.targets.argument_changes import as_it_was, used_up, written_argument
from inferload.targets.inputs.call_input import owned
from inferload.targets.outputs.comparing import (
    Opaque,
    OutputDifference,
    Structure,
    difference,
    leaves,
    not_compared,
    tensors_among,
)
from inferload.targets.outputs.same_outputs import differ
from inferload.targets.outputs.seeding import MOST_DRAWS, generator_states, seeded
from inferload.targets.outputs.settling import settled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from inferload.targets.base import Target
    from inferload.targets.inputs.call_input import CallInput


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """What a model computes alone, for each input, or ``reason``: why there is nothing to compare.

    ``outputs`` are leaves; ``written``: which argument a call wrote to, by the number of the input.
    """

    outputs: Sequence[Sequence[Any]] = ()
    written: Mapping[int, str] = field(default_factory=dict)
    reason: str | None = None


def reference_outputs(
    target: Target,
    inputs: Sequence[CallInput],
    alone: Callable[[int], Any] | None = None,
) -> References:
    """What a model computes alone; ``alone``: what does, where not a call with the input itself.

    Every input is called twice, each time with a copy, and the first one more often if the calls
    draw random numbers: a model that gives two answers when it is alone (dropout, sampling, state
    that calls change) cannot be verified under load.

    Raises:
        PlanError: a call returns a coroutine, or whatever else has its work still to do.
    """
    outputs: list[Sequence[Any]] = []
    written: dict[int, str] = {}
    for number, one in enumerate(inputs):
        found: list[Sequence[Any]] = []
        shared = None
        seeds = generator_states()
        most = 2 if number else MOST_DRAWS
        while len(found) < 2 or (
            len(found) < most
            and difference(found[0], found[-1]) is None
            and generator_states() != seeds
        ):
            own = owned(one)
            was, began = as_it_was(one, own), time.perf_counter()
            try:
                output = _computed(target, number, own) if alone is None else alone(number)
            except (KeyboardInterrupt, PlanError):
                raise
            except BaseException as error:  # noqa: BLE001 - what the run does with it is shown
                return References(
                    reason=f"computed alone it raised {type(error).__name__} on input {number}"
                )
            if target.first_call_ms is None:
                target.first_call_ms = (time.perf_counter() - began) * 1e3
            found.append(leaves(output))
            argument = written_argument(target, number, was, own)
            if argument is not None:
                written[number] = argument
            shared = shared or used_up(target, number, was, own)
        if all(isinstance(one, Structure | Opaque) for one in found[0]) and not_compared(found[0]):
            return References(reason=f"{' and '.join(not_compared(found[0]))} cannot be compared")
        if difference(found[0], found[-1]) is not None:
            why = f" ({shared} is read, and cannot be copied for each call)"
            why = why if shared else _why_two_answers(target, number, one)
            times = "twice" if len(found) == 2 else f"{len(found)} times"
            return References(
                reason=f"computed {times} alone its outputs differ on input {number}{why}"
            )
        outputs.append(found[0])
    return References(outputs=outputs, written=written)


def _computed(target: Target, number: int, own: CallInput) -> Any:
    return settled(target.callable_for(number)(*own.args, **own.kwargs), target.name)


def _why_two_answers(target: Target, number: int, one: CallInput) -> str:
    """Whether it is for random numbers, or for something that calls leave behind."""
    found = []
    try:
        for _ in range(2):
            with seeded():
                found.append(leaves(_computed(target, number, owned(one))))
        same = difference(*found) is None
    except Exception:  # noqa: BLE001 - it did not raise before; what it does is its own
        return ""
    if same:
        return " (it draws random numbers: with the same seed they do not differ)"
    return " (it keeps state that calls change, or draws numbers that no seed governs)"


def differs_in_batch(expected: Sequence[Any], actual: Sequence[Any]) -> bool:
    """Whether what a request got in a batch is something else than what it gets alone.

    Batches of other sizes are computed in another order, which is no difference; nor is what stands
    beyond the request's own shape where the batch was padded.
    """
    actual = _cropped(expected, actual)
    return difference(expected, actual) is not None and differ(expected, actual)


def _cropped(expected: Sequence[Any], actual: Sequence[Any]) -> Sequence[Any]:
    """Tensors without what stands beyond the shapes of those that are expected."""
    if len(expected) != len(actual):
        return actual
    return [
        found[tuple(map(slice, one.shape))]
        if isinstance(one, torch.Tensor)
        and isinstance(found, torch.Tensor)
        and one.dim() == found.dim()
        else found
        for one, found in zip(expected, actual, strict=True)
    ]


def verified(
    references: References,
    kept: Sequence[Sequence[tuple[int, Any]]],
    *,
    tensors_only: bool,
    batched: bool = False,
    padded: bool = False,
) -> Verification:
    """Compare the outputs that callers kept with the references.

    ``tensors_only``: native callers of a package return its tensors, and no constants. ``batched``:
    by what :func:`differs_in_batch` says; ``padded``: to which outputs may owe a larger shape.
    """
    if references.reason is not None:
        return Verification(compared=0, differing=0, reason=references.reason)
    compared, differing = 0, 0
    worst: tuple[OutputDifference, int, int] | None = None
    unknown: dict[str, None] = {}
    for caller, pairs in enumerate(kept):
        for number, output in pairs:
            expected: Sequence[Any] = references.outputs[number]
            actual: Sequence[Any] = leaves(output)
            if tensors_only:
                expected, actual = tensors_among(expected), tensors_among(actual)
            unknown.update(dict.fromkeys([*not_compared(expected), *not_compared(actual)]))
            if padded:
                actual = _cropped(expected, actual)
            found = difference(expected, actual)
            if found is not None and batched and not differ(expected, actual):
                found = None
            compared += 1
            if found is not None:
                differing += 1
                if worst is None or found.size > worst[0].size:
                    worst = (found, caller, number)
    if worst is None:
        return Verification(compared=compared, differing=0, not_compared=tuple(unknown))
    size = worst[0].size
    return Verification(
        compared=compared,
        differing=differing,
        caller=worst[1],
        input=worst[2],
        difference=size if math.isfinite(size) else None,
        how=worst[0].how,
        not_compared=tuple(unknown),
    )


def with_cause(
    found: Verification,
    target: Target,
    inputs: Sequence[CallInput],
    references: References,
    *,
    callers: int,
    fresh_inputs: bool,
    beside: Callable[[int, Sequence[Any]], str | None] | None = None,
) -> Verification:
    """Why outputs differ, if they do; asked when all callers have ended.

    ``found`` has the numbers of callers and inputs that ``references`` have. The model is called
    once more with the input that differed most: what it answers otherwise now, when it is alone
    again, it does not owe to other callers.
    """
    number = found.input
    if not found.differing or number is None:
        return found
    if references.written and not fresh_inputs:
        if number not in references.written:
            number = min(references.written)
        argument = f"{references.written[number]} of input {number}"
        return replace(found, cause="input", argument=argument)
    if beside is not None:
        with suppress(Exception):  # what raises now did not in the run: it has another cause
            cause = beside(number, references.outputs[number])
            if cause is not None:
                return replace(found, cause=cause)
    if callers == 1:
        return replace(found, cause="state")
    try:
        again = leaves(_computed(target, number, owned(inputs[number])))
        differs = difference(references.outputs[number], again) is not None
    except Exception:  # noqa: BLE001 - it did not raise alone before: calls have changed something
        differs = True
    return replace(found, cause="state" if differs else "threads")
