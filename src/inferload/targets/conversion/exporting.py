"""An eager model as an exported program, and that as an AOTInductor package."""

from __future__ import annotations

import inspect
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from inferload.errors import PlanError
from inferload.machine.scratch import scratch_folder
from inferload.targets.inputs.call_input import CallInput, owned
from inferload.targets.kinds.exported import AotiTarget, ExportedTarget
from inferload.targets.kinds.program_inputs import bound_to_program
from inferload.targets.outputs.flat import returning_tensors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.export import ExportedProgram

# torch.export fixes a dimension for which its example has 0 or 1.
_LEAST_DYNAMIC = 2


def exported(module: torch.nn.Module, inputs: Sequence[CallInput], name: str) -> ExportedTarget:
    """Export a module; a dimension in which the inputs differ is dynamic.

    Raises:
        PlanError: an input does not fit the program; names the argument.
    """
    program = _program(module, inputs)
    for number, one in enumerate(inputs):
        bound_to_program(program, number, one)
    return ExportedTarget(program, name)


def packaged(
    program: ExportedProgram, inputs: Sequence[CallInput], name: str, within: Path | None
) -> AotiTarget:
    """Compile a program to a package, in a folder that goes with the target.

    Raises:
        PlanError: an input does not fit the program; names the argument.
    """
    from torch._inductor import aoti_compile_and_package  # takes a second to import

    for number, one in enumerate(inputs):
        bound_to_program(program, number, one)
    folder = scratch_folder() if within is None else Path(tempfile.mkdtemp(dir=within))
    try:
        path = aoti_compile_and_package(program, package_path=str(folder / "model.pt2"))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    target = AotiTarget(path, name, program=program)
    weakref.finalize(target, shutil.rmtree, folder, ignore_errors=True)
    return target


def _program(module: torch.nn.Module, inputs: Sequence[CallInput]) -> ExportedProgram:
    leaves, structure = _leaves_of(inputs)
    dims = _differing(leaves)
    args, kwargs = pytree.tree_unflatten(_example(leaves, dims), structure)
    shapes = [dict.fromkeys(own, torch.export.Dim.AUTO) if own else None for own in dims]
    given: dict[str, Any] = {"strict": False}
    if any(shapes):
        of_args, of_kwargs = pytree.tree_unflatten(shapes, structure)
        bound = inspect.signature(module.forward).bind(*of_args, **of_kwargs)
        given["dynamic_shapes"] = dict(bound.arguments)
    try:
        return torch.export.export(module, args, kwargs, **given)
    except RuntimeError as error:
        if "in output, which is not a known type" not in str(error):
            raise
    return torch.export.export(returning_tensors(module), args, kwargs, **given)


def _leaves_of(inputs: Sequence[CallInput]) -> tuple[list[list[Any]], pytree.TreeSpec]:
    """The leaves of the arguments of each input, and their one structure."""
    copies = [owned(one) for one in inputs]
    trees = [(tuple(one.args), dict(one.kwargs)) for one in copies]
    leaves, structures = zip(*(pytree.tree_flatten(tree) for tree in trees), strict=True)
    if any(structure != structures[0] for structure in structures):
        raise PlanError(
            "the inputs differ in structure: one exported program takes one structure; run them "
            "apart"
        )
    return list(leaves), structures[0]


def _differing(leaves: Sequence[Sequence[Any]]) -> list[list[int]]:
    """For each leaf the dimensions in which the inputs differ."""
    found: list[list[int]] = []
    for same_place in zip(*leaves, strict=True):
        if not all(isinstance(one, torch.Tensor) and not one.is_nested for one in same_place):
            found.append([])
            continue
        sizes = [tuple(one.shape) for one in same_place]
        if len({len(size) for size in sizes}) > 1:
            raise PlanError("the inputs differ in their number of dimensions: run them apart")
        found.append(
            [dim for dim, of_all in enumerate(zip(*sizes, strict=True)) if len(set(of_all)) > 1]
        )
    return found


def _example(leaves: Sequence[Sequence[Any]], dims: Sequence[Sequence[int]]) -> list[Any]:
    """The leaves of an input that has no 0 or 1 where the inputs differ.

    If none is like that, one is laid out anew: with the largest size in each such dimension.
    """

    def least(own: Sequence[Any]) -> int:
        sizes = [leaf.shape[dim] for leaf, of in zip(own, dims, strict=True) for dim in of]
        return min(sizes, default=_LEAST_DYNAMIC)

    best = max(leaves, key=least)
    if least(best) >= _LEAST_DYNAMIC:
        return list(best)
    found = list(best)
    for place, of in enumerate(dims):
        for dim in of:
            size = max(own[place].shape[dim] for own in leaves)
            has = max(found[place].shape[dim], 1)
            if found[place].shape[dim] == 0:
                shape = list(found[place].shape)
                shape[dim] = 1
                found[place] = found[place].new_zeros(shape)
            again = torch.arange(size, device=found[place].device) % has
            found[place] = found[place].index_select(dim, again)
    return found
