"""Turn an eager model into another form, and check that it still computes the same."""

from __future__ import annotations

import inspect
import tempfile
import time
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from inferload.errors import PlanError
from inferload.inputs import owned, tensors_of
from inferload.records import RunWarning
from inferload.targets.eager import CompiledTarget, ModuleTarget
from inferload.targets.exported import AotiTarget, ExportedTarget, bound_to_program
from inferload.targets.load import as_target
from inferload.targets.script import ScriptTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferload.inputs import CallInput
    from inferload.targets.base import Target

FORMS = ("eager", "compile", "script", "export", "aoti")

# Fused and reordered float32 arithmetic differs from eager's by this much; a form that computes
# something else differs by far more.
_RELATIVE, _ABSOLUTE = 1e-2, 1e-3


def as_form(
    model: object,
    form: str | None,
    inputs: Sequence[CallInput],
    name: str | None = None,
    *,
    folder: Path | None = None,
) -> Target:
    """Turn an eager model into ``form``; without a form, take the model as it is.

    Inputs that differ in a dimension make that dimension dynamic. The converted model must give
    the outputs of the eager one on every input. ``folder``: where to keep a package that is made;
    a temporary folder of its own if not given.

    Raises:
        PlanError: the form is unknown, the model is not eager, it cannot be converted, or
            computes something else once converted.
    """
    if form is None:
        return as_target(model, name)
    if form not in FORMS:
        raise PlanError(f"form {form!r} is unknown: choose {', '.join(FORMS)}")
    target = as_target(model, name)
    if target.form == form:
        return target
    if not isinstance(target, ModuleTarget):
        raise PlanError(
            f"{target.name} is in the form {target.form!r} already: only an eager nn.Module can "
            f"be turned into {form!r}"
        )
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        warnings.filterwarnings("ignore", category=torch.jit._trace.TracerWarning)  # noqa: SLF001
        warnings.filterwarnings("ignore", category=UserWarning, module="torch")
        try:
            started = time.perf_counter()
            if form == "aoti":
                converted = _aoti(target.module, inputs, target.name, folder)
            else:
                converted = _CONVERTERS[form](target.module, inputs, target.name)
            converted.conversion_s = time.perf_counter() - started
            if form != "compile":
                _check_same_outputs(target, converted, inputs)
        except PlanError:
            raise
        except (Exception, SystemExit) as error:
            raise PlanError(
                f"{target.name} cannot be turned into {form!r}: {type(error).__name__}: "
                f"{_first_line(error)}"
            ) from error
    return converted


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else "no reason given"


def _compiled(module: torch.nn.Module, inputs: Sequence[CallInput], name: str) -> Target:
    del inputs
    return CompiledTarget(torch.compile(module), name)


def _scripted(module: torch.nn.Module, inputs: Sequence[CallInput], name: str) -> Target:
    try:
        return ScriptTarget(torch.jit.script(module), name)
    except Exception as error:  # noqa: BLE001 - whatever the compiler raises, tracing may do
        reason = _first_line(error)
    first = owned(inputs[0])
    kwargs = dict(first.kwargs)
    if first.args and kwargs:
        raise PlanError(
            f"{name} cannot be scripted ({reason}), and tracing takes positional or keyword "
            "arguments, not both: change the inputs"
        )
    examples: dict[str, Any] = (
        {"example_kwarg_inputs": kwargs} if kwargs else {"example_inputs": tuple(first.args)}
    )
    traced = ScriptTarget(torch.jit.trace(module, strict=False, **examples), name)
    traced.notes = (
        RunWarning(
            code="traced",
            message=f"scripting failed ({reason}), so the model was traced with its first input",
            hint="control flow is fixed as it went; outputs were checked on every input",
        ),
    )
    return traced


def _program(module: torch.nn.Module, inputs: Sequence[CallInput]) -> torch.export.ExportedProgram:
    example = owned(max(inputs, key=_least_size))
    return torch.export.export(
        module,
        tuple(example.args),
        dict(example.kwargs),
        dynamic_shapes=_dynamic_shapes(module, inputs),
        strict=False,
    )


def _least_size(one: CallInput) -> int:
    """The smallest dimension: torch.export fixes a dimension for which its example has 0 or 1."""
    return min(
        (size for t in tensors_of((one.args, dict(one.kwargs))) for size in t.shape), default=0
    )


def _exported(module: torch.nn.Module, inputs: Sequence[CallInput], name: str) -> Target:
    return ExportedTarget(_program(module, inputs), name)


def _aoti(
    module: torch.nn.Module, inputs: Sequence[CallInput], name: str, within: Path | None
) -> Target:
    from torch._inductor import aoti_compile_and_package  # takes a second to import

    program = _program(module, inputs)
    for number, one in enumerate(inputs):
        bound_to_program(program, number, one)
    folder = tempfile.TemporaryDirectory(prefix="inferload-aoti-", dir=within)
    path = aoti_compile_and_package(program, package_path=str(Path(folder.name) / "model.pt2"))
    return AotiTarget(path, name, program=program, folder=folder)


_CONVERTERS: dict[str, Callable[[torch.nn.Module, Sequence[CallInput], str], Target]] = {
    "compile": _compiled,
    "script": _scripted,
    "export": _exported,
}


def _dynamic_shapes(module: torch.nn.Module, inputs: Sequence[CallInput]) -> Any:
    """``torch.export``'s dynamic shapes: AUTO for every dimension that differs among the inputs."""
    trees = [(tuple(one.args), dict(one.kwargs)) for one in inputs]
    leaves, structures = zip(*(pytree.tree_flatten(tree) for tree in trees), strict=True)
    if any(structure != structures[0] for structure in structures):
        raise PlanError(
            "the inputs differ in structure: one exported program takes one structure; run them "
            "apart"
        )
    shapes: list[Any] = []
    for same_place in zip(*leaves, strict=True):
        if not isinstance(same_place[0], torch.Tensor):
            shapes.append(None)
            continue
        sizes = [tuple(value.shape) for value in same_place]
        if len({len(size) for size in sizes}) > 1:
            raise PlanError("the inputs differ in their number of dimensions: run them apart")
        shapes.append(
            {
                dim: torch.export.Dim.AUTO
                for dim in range(len(sizes[0]))
                if len({size[dim] for size in sizes}) > 1
            }
            or None
        )
    if not any(shapes):
        return None
    args, kwargs = pytree.tree_unflatten(shapes, structures[0])
    return dict(inspect.signature(module.forward).bind(*args, **kwargs).arguments)


def _widest(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)


def _check_same_outputs(eager: Target, converted: Target, inputs: Sequence[CallInput]) -> None:
    # rounding to bfloat16 or float16 happens in other places once operators are fused
    tolerance = (5e-2, 5e-2) if torch.is_autocast_enabled("cpu") else (_RELATIVE, _ABSOLUTE)
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(mode=False))
        for number, one in enumerate(inputs):
            mine, its = owned(one), owned(one)
            expected = tensors_of(eager.python_callable()(*mine.args, **mine.kwargs))
            started = time.perf_counter()
            output = converted.python_callable()(*its.args, **its.kwargs)
            if converted.first_call_ms is None:
                converted.first_call_ms = (time.perf_counter() - started) * 1e3
            found = tensors_of(output)
            if len(expected) != len(found) or not all(
                a.shape == b.shape
                and torch.allclose(_widest(a), _widest(b), *tolerance, equal_nan=True)
                for a, b in zip(expected, found, strict=True)
            ):
                raise PlanError(
                    f"{eager.name} computes something else in the form {converted.form!r}: its "
                    f"outputs differ from the eager model's on input {number}, so its speed "
                    "would mean nothing; choose another form"
                )
