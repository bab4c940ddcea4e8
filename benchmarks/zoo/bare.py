"""torch's own conversion and call of a model, as plainly as its documentation has them."""

from __future__ import annotations

import copy
import tempfile
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferload import CallInput

#: What is said of a form of torch's own that computes something else.
DIFFERS = "its outputs differ from the eager model's"
_MODES: tuple[tuple[str, Callable[[], Any]], ...] = (
    ("", torch.inference_mode),
    ("outside of inference mode", torch.no_grad),
    ("with gradients", nullcontext),
)


def tried(model: Any, inputs: Sequence[CallInput], form: str) -> tuple[str, str]:
    """Convert and call a model by torch alone: why that failed, and in which mode it did not.

    Both are empty if it works in inference mode; the mode is, too, if it works in none. A program
    is made for the last input, with each dimension that differs among inputs left to torch; every
    input is called. What inference mode forbids is tried without.
    """
    reason = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, mode in _MODES:
            found = _why_not(model, inputs, form, mode)
            if not found:
                return reason, name
            reason = reason or found
    return reason, ""


class _DiffersError(Exception):
    """What was converted computes something else."""


def _why_not(model: Any, inputs: Sequence[CallInput], form: str, mode: Callable[[], Any]) -> str:
    try:
        call = _CONVERTERS[form](model, inputs)
        with mode():
            for one in inputs:
                _same(_eager(model, inputs), call, one)
    except _DiffersError:
        return DIFFERS
    except Exception as error:  # noqa: BLE001 - whatever torch raises is the answer
        return f"{type(error).__name__}: {error}"
    return ""


def _same(eager: Callable[..., Any], call: Callable[..., Any], one: CallInput) -> None:
    """Call it; if the eager model repeats itself, the outputs must be like its own."""
    found, first, second = (
        [leaf for leaf in pytree.tree_leaves(_called(each, one)) if _is_plain(leaf)]
        for each in (call, eager, eager)
    )
    if len(first) == len(second) and all(map(_close, first, second)):
        for expected, actual in zip(first, found, strict=False):
            if not _close(expected, actual):
                raise _DiffersError


def _called(call: Callable[..., Any], one: CallInput) -> Any:
    return call(*copy.deepcopy(one.args), **copy.deepcopy(dict(one.kwargs)))


def _is_plain(leaf: object) -> bool:
    return (
        isinstance(leaf, torch.Tensor)
        and leaf.layout == torch.strided
        and not leaf.is_nested
        and not leaf.is_quantized
    )


def _close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(
        one.to(torch.complex128), other.to(torch.complex128), 5e-2, 5e-3, equal_nan=True
    )


def _eager(model: Any, _: Sequence[CallInput]) -> Callable[..., Any]:
    called: Callable[..., Any] = (
        model.module() if isinstance(model, torch.export.ExportedProgram) else model
    )
    return called


def _compile(model: Any, _: Sequence[CallInput]) -> Callable[..., Any]:
    return torch.compile(model)


def _script(model: Any, inputs: Sequence[CallInput]) -> Callable[..., Any]:
    first = copy.deepcopy(inputs[0])
    try:
        scripted: Callable[..., Any] = torch.jit.script(model)
        scripted(*copy.deepcopy(first.args), **copy.deepcopy(dict(first.kwargs)))
    except Exception:  # whatever it is, there is another way to TorchScript
        if first.args and first.kwargs:  # tracing takes either
            raise
        given: dict[str, Any] = (
            {"example_kwarg_inputs": dict(first.kwargs)}
            if first.kwargs
            else {"example_inputs": tuple(first.args)}
        )
        with torch.no_grad():
            traced: Callable[..., Any] = torch.jit.trace(
                model, strict=False, check_trace=False, **given
            )
        return traced
    return scripted


def _program(model: Any, inputs: Sequence[CallInput]) -> torch.export.ExportedProgram:
    if isinstance(model, torch.export.ExportedProgram):
        return model
    first = copy.deepcopy(inputs[-1])
    with torch.no_grad():
        return torch.export.export(
            model,
            tuple(first.args),
            dict(first.kwargs),
            dynamic_shapes=_dynamic(inputs),
            strict=False,
        )


def _export(model: Any, inputs: Sequence[CallInput]) -> Callable[..., Any]:
    return _program(model, inputs).module()


def _aoti(model: Any, inputs: Sequence[CallInput]) -> Callable[..., Any]:
    from torch._inductor import aoti_compile_and_package, aoti_load_package

    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = aoti_compile_and_package(
            _program(model, inputs), package_path=str(Path(folder) / "model.pt2")
        )
        loaded: Callable[..., Any] = aoti_load_package(path)
    return loaded


def _dynamic(inputs: Sequence[CallInput]) -> Any:
    """AUTO for the dimensions that differ, if there are any and inputs are alike otherwise."""
    if any(one.args and one.kwargs for one in inputs):
        return None
    trees = [tuple(one.args) if one.args else dict(one.kwargs) for one in inputs]
    leaves, structures = zip(*(pytree.tree_flatten(tree) for tree in trees), strict=True)
    if any(structure != structures[0] for structure in structures):
        return None
    shapes = [
        {
            dim: torch.export.Dim.AUTO
            for dim in range(same[0].dim())
            if len({one.shape[dim] for one in same}) > 1
        }
        if isinstance(same[0], torch.Tensor) and not same[0].is_nested
        else None
        for same in zip(*leaves, strict=True)
    ]
    return pytree.tree_unflatten(shapes, structures[0]) if any(shapes) else None


_CONVERTERS: dict[str, Callable[[Any, Sequence[CallInput]], Callable[..., Any]]] = {
    "eager": _eager,
    "compile": _compile,
    "script": _script,
    "export": _export,
    "aoti": _aoti,
    "processes": _eager,
}
