"""The inputs of exported programs: flattened, named, and held against what a program takes."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import torch
from torch.export._tree_utils import reorder_kwargs
from torch.utils import _pytree as pytree

from inferload.errors import PlanError
from inferload.targets.inputs.call_input import CallInput, described

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def flat_arguments(in_spec: pytree.TreeSpec, number: int, call_input: CallInput) -> list[Any]:
    """Flatten an input as ``in_spec``, the structure of ``(args, kwargs)``, has it.

    Raises:
        PlanError: the structure differs; names the argument.
    """
    want_args, want_kwargs = _children(in_spec)
    names = list(want_kwargs.context)
    if len(call_input.args) != want_args.num_children or set(call_input.kwargs) != set(names):
        wanted = [f"{want_args.num_children} positional", *(f"{name}=" for name in names)]
        raise PlanError(
            f"input {number} ({described(call_input)}) does not fit the exported program, which "
            f"takes {', '.join(wanted)}{_unlike(names, call_input)}"
        )
    given = (tuple(call_input.args), reorder_kwargs(dict(call_input.kwargs), in_spec))
    for place, (value, spec) in enumerate(zip(given[0], _children(want_args), strict=True)):
        _check_structure(number, f"argument {place}", value, spec)
    for name, spec in zip(names, _children(want_kwargs), strict=True):
        _check_structure(number, f"argument {name!r}", given[1][name], spec)
    leaves: list[Any] = pytree.tree_leaves(given)
    return leaves


def argument_names(in_spec: pytree.TreeSpec) -> list[str]:
    """How each leaf of the arguments is named: by the argument, and its place in that."""
    leaves = range(in_spec.num_leaves)
    args, kwargs = pytree.tree_unflatten([*leaves], in_spec)
    of: dict[int, str] = {}
    for key, value in [*enumerate(args), *kwargs.items()]:
        own = pytree.tree_leaves(value)
        told = f"argument {key!r}"
        of |= {leaf: told if len(own) == 1 else f"{told}, tensor {n}" for n, leaf in enumerate(own)}
    return [of[leaf] for leaf in leaves]


def _children(spec: pytree.TreeSpec) -> list[pytree.TreeSpec]:
    if hasattr(spec, "children"):
        return spec.children()
    return list(spec.children_specs)  # torch 2.6


def _unlike(names: list[str], call_input: CallInput) -> str:
    missing = [name for name in names if name not in call_input.kwargs]
    unknown = [name for name in call_input.kwargs if name not in names]
    said = [f"argument {name!r} is missing" for name in missing]
    said += [f"argument {name!r} is unknown" for name in unknown]
    return ": " + ", ".join(said) if said else ""


def _check_structure(number: int, name: str, value: object, spec: pytree.TreeSpec) -> None:
    found = pytree.tree_structure(value)
    if found != spec:
        raise PlanError(
            f"input {number}, {name}: the exported program takes {_shape_of(spec)}, "
            f"this is {_shape_of(found)}"
        )


def _shape_of(spec: pytree.TreeSpec) -> str:
    if spec.is_leaf():
        return "one value"
    kind = getattr(spec.type, "__name__", str(spec.type))
    keys = f" with keys {list(spec.context)}" if isinstance(spec.context, list) else ""
    return f"a {kind} of {spec.num_children}{keys}"


def bound_to_program(program: ExportedProgram, number: int, call_input: CallInput) -> CallInput:
    """Check an input's structure, constants, dtypes, devices and shapes against a program.

    Raises:
        PlanError: naming the argument.
    """
    in_spec = program.call_spec.in_spec
    leaves = flat_arguments(in_spec, number, call_input)
    signature = program.graph_signature
    expected = {node.name: node.meta.get("val") for node in program.graph.nodes}
    names = [
        node.name
        for node in program.graph.nodes
        if node.op == "placeholder"
        and node.name
        not in {
            *signature.inputs_to_parameters,
            *signature.inputs_to_buffers,
            *signature.inputs_to_lifted_tensor_constants,
            *signature.inputs_to_lifted_custom_objs,
        }
    ]
    for name, value in zip(names, leaves, strict=False):
        where = f"input {number}, argument {name!r}"
        want = expected[name]
        if isinstance(want, torch.Tensor):
            _check_tensor(program, where, value, want)
        elif isinstance(want, int | float | str | bool) and value != want:
            raise PlanError(f"{where}: the program was exported for {want!r}, this is {value!r}")
    return call_input


def _size_bounds(program: ExportedProgram, expected: int | torch.SymInt) -> tuple[Any, Any]:
    """The least and the greatest size that the program takes in a dimension."""
    if isinstance(expected, int):
        return expected, expected
    bounds = program.range_constraints.get(expected.node.expr)
    if bounds is None:
        return 0, math.inf
    # a lower bound of 2 only says that sizes 0 and 1 were not specialized: the program takes them
    return (0 if bounds.lower <= 2 else bounds.lower), bounds.upper


def _check_tensor(program: ExportedProgram, where: str, value: Any, want: torch.Tensor) -> None:
    if not isinstance(value, torch.Tensor):
        raise PlanError(f"{where}: the program takes a tensor, this is a {type(value).__name__}")
    if value.dtype != want.dtype:
        raise PlanError(f"{where}: the program takes {want.dtype}, this is {value.dtype}")
    if value.device.type != want.device.type:
        raise PlanError(
            f"{where}: the program takes it on {want.device}, this is on {value.device}"
        )
    if value.dim() != want.dim():
        raise PlanError(
            f"{where}: the program takes {want.dim()} dimensions, this has {value.dim()}"
        )
    for dim, (size, expected) in enumerate(zip(value.shape, want.shape, strict=True)):
        low, high = _size_bounds(program, expected)
        if not low <= size <= high:
            most = "or more" if high >= sys.maxsize else f"to {high}"
            span = f"{low}" if low == high else f"{low} {most}"
            raise PlanError(
                f"{where}: the program takes size {span} in dimension {dim}, this has {size}; run "
                "inputs of such sizes apart"
            )
