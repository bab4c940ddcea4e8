"""Turn an eager model into another form, and check that it still computes the same."""

from __future__ import annotations

import inspect
import shutil
import tempfile
import time
import warnings
import weakref
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from inferload.device_errors import in_short
from inferload.errors import PlanError
from inferload.inputs import owned, tensors_of
from inferload.model_source import FORMS
from inferload.records import RunWarning
from inferload.targets.eager import CallableTarget, CompiledTarget, ModuleTarget
from inferload.targets.exported import AotiTarget, ExportedTarget, bound_to_program
from inferload.targets.graphs import GraphTarget
from inferload.targets.load import as_target
from inferload.targets.same_outputs import check_same_outputs
from inferload.targets.script import ScriptTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferload.inputs import CallInput
    from inferload.targets.base import Target


def as_form(
    model: object,
    form: str | None,
    inputs: Sequence[CallInput],
    name: str | None = None,
    *,
    folder: Path | None = None,
    mode: str | None = None,
) -> Target:
    """Turn an eager model into ``form``; without a form, take the model as it is.

    Inputs that differ in a dimension make that dimension dynamic. The converted model must give
    the outputs of the eager one on every input. ``folder``: where to keep a package that is made;
    a temporary folder of its own if not given. ``mode`` is ``torch.compile``'s. CUDA graphs are
    captured, and compared, when callers have inputs of their own.

    Raises:
        PlanError: the form is unknown, the model is not eager, it cannot be converted, or
            computes something else once converted.
    """
    _check_words(form, mode)
    target = as_target(model, name)
    if form is None or target.form == form:
        return target
    if form == "cudagraph" and isinstance(target, ModuleTarget | CallableTarget | ScriptTarget):
        return GraphTarget(target)
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
            return _converted(target, form, inputs, folder, mode)
        except PlanError:
            raise
        except (Exception, SystemExit) as error:
            raise PlanError(
                f"{target.name} cannot be turned into {form!r}: {type(error).__name__}: "
                f"{in_short(_first_line(error))}"
            ) from error


def _check_words(form: str | None, mode: str | None) -> None:
    if form is not None and form not in FORMS:
        raise PlanError(f"form {form!r} is unknown: choose {', '.join(FORMS)}")
    if mode is not None and form != "compile":
        raise PlanError(f"mode {mode!r} is one of torch.compile: it goes with --form compile")


def _converted(
    target: ModuleTarget,
    form: str,
    inputs: Sequence[CallInput],
    folder: Path | None,
    mode: str | None,
) -> Target:
    started = time.perf_counter()
    if form == "compile":
        converted = _compiled(target.module, target.name, mode)
    elif form == "aoti":
        converted = _aoti(target.module, inputs, target.name, folder)
    else:
        converted = _CONVERTERS[form](target.module, inputs, target.name)
    converted.conversion_s = time.perf_counter() - started
    converted.may_become = tuple(one for one in target.may_become if one != form)
    if form != "compile":
        _check_same_outputs(target, converted, inputs)
    return converted


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else "no reason given"


def _compiled(module: torch.nn.Module, name: str, mode: str | None) -> Target:
    from torch._inductor import list_mode_options  # takes a while to import

    known = list_mode_options()
    if mode is not None and mode not in known:
        raise PlanError(f"torch.compile has no mode {mode!r}: choose {', '.join(known)}")
    return CompiledTarget(torch.compile(module, mode=mode), name)


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
    folder = tempfile.mkdtemp(prefix="inferload-aoti-", dir=within)
    path = aoti_compile_and_package(program, package_path=str(Path(folder) / "model.pt2"))
    target = AotiTarget(path, name, program=program)
    weakref.finalize(target, shutil.rmtree, folder, ignore_errors=True)
    return target


_CONVERTERS: dict[str, Callable[[torch.nn.Module, Sequence[CallInput], str], Target]] = {
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


def _check_same_outputs(eager: Target, converted: Target, inputs: Sequence[CallInput]) -> None:
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(mode=False))
            stack.enter_context(torch.no_grad())  # leaving inference mode turns gradients on
        for number, one in enumerate(inputs):
            its = owned(one)
            started = time.perf_counter()
            output = converted.python_callable()(*its.args, **its.kwargs)
            if converted.first_call_ms is None:
                converted.first_call_ms = (time.perf_counter() - started) * 1e3
            check_same_outputs(converted, number, eager.python_callable(), one, output)
