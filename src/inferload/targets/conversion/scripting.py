"""An eager model as TorchScript: scripted, or else traced."""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, Any

import torch

from inferload.errors import PlanError
from inferload.log.reasons import reason_of
from inferload.records.figures import RunWarning
from inferload.targets.conversion.recording import recording_nothing
from inferload.targets.inputs.call_input import owned
from inferload.targets.kinds.script import ScriptTarget
from inferload.targets.outputs.comparing import tensors_in
from inferload.targets.outputs.flat import returning_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferload.targets.inputs.call_input import CallInput


def scripted(module: torch.nn.Module, inputs: Sequence[CallInput], name: str) -> ScriptTarget:
    """Script a module; trace it where it cannot be scripted, or not be called once it is.

    Raises:
        PlanError: neither works; says why for both.
    """
    try:
        with recording_nothing():
            made = ScriptTarget(torch.jit.script(module), name)
        _called(made, inputs[0])
    except Exception as error:  # noqa: BLE001 - whatever the compiler raises, tracing may do
        return _traced(module, inputs[0], name, reason_of(error))
    return made


def _called(made: ScriptTarget, one: CallInput) -> None:
    """Call what was made as callers will, in their grad mode: some works in one of them only.

    Raises:
        Exception: it cannot be called.
    """
    own = owned(one)
    made.bind(0, own)
    made.python_callable()(*own.args, **own.kwargs)


def _traced(
    module: torch.nn.Module, first: CallInput, name: str, not_scripted: str
) -> ScriptTarget:
    by_name = _by_name(module, first)
    flat = "; it returns the tensors of its output in a tuple"
    ways: list[tuple[Callable[[], torch.nn.Module], str]] = [
        (lambda: module, ""),
        (lambda: returning_tensors(module), flat),
    ]
    reasons: list[str] = []
    for way, told in ways:
        try:
            made = ScriptTarget(_trace(way(), by_name or owned(first)), name)
            _called(made, first)
        except Exception as error:  # noqa: BLE001 - another way may do
            reasons.append(reason_of(error))
            continue
        made.notes = (
            RunWarning(
                code="traced",
                message=(
                    f"scripting failed ({not_scripted}), so the model was traced with its first "
                    f"input{told}"
                ),
                hint="control flow is fixed as it went with that input",
            ),
        )
        return made
    why = dict.fromkeys(reasons)
    raise PlanError(
        f"{name} can be neither scripted ({not_scripted}) nor traced ({'; '.join(why)}): "
        f"{_way_round(module, first)}"
    )


def _way_round(module: torch.nn.Module, first: CallInput) -> str:
    if not tensors_in((first.args, dict(first.kwargs))):
        return "a trace takes tensors, and its inputs hold none: --form export or --form compile"
    if hasattr(getattr(module, "config", None), "use_cache"):
        return "without a cache it may do (config.use_cache = False), or --form compile"
    return "--form compile leaves out what it cannot compile, and --form export may do"


def _by_name(module: torch.nn.Module, first: CallInput) -> CallInput | None:
    """All arguments by their names, where some are given so: a trace takes one kind only."""
    if not (first.args and first.kwargs):
        return None
    own = owned(first)
    bound = inspect.signature(module.forward).bind(*own.args, **own.kwargs)
    return type(first)((), dict(bound.arguments), first.items)


def _trace(module: torch.nn.Module, one: CallInput) -> torch.jit.ScriptModule:
    example: dict[str, Any] = (
        {"example_kwarg_inputs": dict(one.kwargs)}
        if one.kwargs
        else {"example_inputs": tuple(one.args)}
    )
    # weights that autocast has cached as copies cannot become constants of a trace
    cached = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        with recording_nothing(), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # outputs are compared later, by a rule that knows of randomness and state
            made: torch.jit.ScriptModule = torch.jit.trace(
                module, strict=False, check_trace=False, **example
            )
    finally:
        torch.set_autocast_cache_enabled(cached)
    return made
