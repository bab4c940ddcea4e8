"""Which argument a call changed, by its name."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from inferload.targets.inputs.changes import Comparing
from inferload.targets.inputs.state import marked

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferload.targets.base import Target
    from inferload.targets.inputs.call_input import CallInput
    from inferload.targets.inputs.changes import Change


def as_it_was(given: CallInput, own: CallInput) -> CallInput:
    """An input to compare with when calls have had ``own``, its copy as far as it can be copied."""
    args, kwargs = marked(
        (tuple(given.args), dict(given.kwargs)), (tuple(own.args), dict(own.kwargs))
    )
    return replace(given, args=args, kwargs=kwargs)


def written_argument(target: Target, number: int, was: CallInput, now: CallInput) -> str | None:
    """Which argument of an input a call wrote to or read up, in words."""
    found = change_of(Comparing(), was, now)
    return None if found is None else argument_name(target, number, found.argument)


def used_up(target: Target, number: int, was: CallInput, now: CallInput) -> str | None:
    """Which argument that all calls share, since it cannot be copied, a call read, in words."""
    found = change_of(Comparing(), was, now)
    if found is None or not found.shared:
        return None
    return f"{argument_name(target, number, found.argument)} ({found.type_name})"


def change_of(
    comparing: Comparing, was: CallInput, now: CallInput, *, but_tensors: bool = False
) -> Change | None:
    """What differs between an input as it was and as it is now."""
    return comparing.change(
        (tuple(was.args), was.kwargs), (tuple(now.args), now.kwargs), but_tensors=but_tensors
    )


def argument_name(target: Target, number: int, place: int | str) -> str:
    """An argument in words, by its name where the model tells that."""
    if isinstance(place, str):
        return f"argument {place!r}"
    names = parameters_of(target, number)
    return f"argument {names[place]!r}" if place < len(names) else f"argument {place}"


def parameters_of(target: Target, number: int) -> list[str]:
    """The names of the positional parameters of what an input is passed to; none if unknown."""
    try:
        return _names(target.callable_for(number))
    except Exception:  # noqa: BLE001 - a model's own class, which need not have a signature
        return []


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
