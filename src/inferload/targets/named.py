"""What a name in a user's file stands for: a model, or what makes one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch.export import ExportedProgram

from inferload.errors import PlanError
from inferload.targets.base import Target
from inferload.targets.kinds.python import is_compiled

if TYPE_CHECKING:
    from collections.abc import Callable

_MODELS = (torch.nn.Module, ExportedProgram, Target, torch.jit.ScriptFunction)


def is_model(value: Any, name: str, where: str) -> bool:
    """Whether a value is the model itself, and not a function or class that makes it.

    A function, method or partial that takes the inputs is the model: it has a parameter that must
    be given. One that needs none makes the model; a class is instantiated. An object that can be
    called is the model if it takes anything.

    Raises:
        PlanError: it is neither.
    """
    if isinstance(value, _MODELS) or _is_by_size(value):
        return True
    if not callable(value):
        raise PlanError(
            f"{name!r} in {where} is a {type(value).__name__}: it must be a module, a function "
            "that takes the inputs, or a function without arguments that returns a model"
        )
    if isinstance(value, type):
        return False
    if is_compiled(value) or type(getattr(value, "loader", None)).__name__ == (
        "AOTIModelPackageLoader"
    ):
        return True
    parameters = _parameters(value)
    if parameters is None:
        return True
    if inspect.isroutine(value) or isinstance(value, functools.partial):
        return any(_is_required(one) for one in parameters)
    return bool(parameters)


def _is_by_size(made: object) -> bool:
    """Whether it maps sizes of dimension 0 to models."""
    return isinstance(made, Mapping) and bool(made) and all(isinstance(one, int) for one in made)


def check_made(made: object, value: Callable[..., Any], name: str, where: str) -> None:
    """Refuse what is no model.

    Raises:
        PlanError: naming what was returned, and what to write.
    """
    if made is None:
        raise PlanError(f"{name}() in {where} returned None: it must return the model")
    if callable(made) or isinstance(made, (str, *_MODELS)) or hasattr(made, "__fspath__"):
        return
    if _is_by_size(made):
        return
    if isinstance(value, type):
        raise PlanError(
            f"{name} in {where} makes a {type(made).__name__}, which cannot be called: give its "
            f"class a __call__, or write def model(): return {name}().method"
        )
    # a function all of whose parameters have defaults may have been meant as the model
    raise PlanError(
        f"{name}() in {where} returned a {type(made).__name__}, which is no model; if {name} is "
        f"the model itself, write def model(): return {name}"
    )


def check_makes(value: Callable[..., Any], name: str, where: str) -> None:
    """Refuse a class that needs arguments.

    Raises:
        PlanError: naming them, and what to write.
    """
    needed = [one.name for one in _parameters(value) or () if _is_required(one)]
    if needed:
        raise PlanError(
            f"{name} in {where} cannot be made without {', '.join(needed)}: write "
            f"def model(): return {name}({', '.join(f'{one}=...' for one in needed)})"
        )


def takes_inputs(value: Callable[..., Any]) -> bool:
    """Whether a function that needs no arguments may be the model all the same."""
    return not isinstance(value, type) and bool(_parameters(value))


def _parameters(value: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """What it can be called with; ``None`` where a function of C does not tell."""
    try:
        return list(inspect.signature(value).parameters.values())
    except (ValueError, TypeError):
        return None


def _is_required(one: inspect.Parameter) -> bool:
    variadic = one.kind in {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    return one.default is inspect.Parameter.empty and not variadic
