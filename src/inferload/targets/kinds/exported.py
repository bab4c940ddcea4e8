"""What ``torch.export`` leads to: exported programs and AOTInductor packages."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.export._tree_utils import reorder_kwargs
from torch.utils import _pytree as pytree

from inferload.errors import PlanError
from inferload.log.reasons import reason_of
from inferload.records.figures import RunWarning
from inferload.targets.base import Target
from inferload.targets.inputs.call_input import CallInput, described
from inferload.targets.kinds.known_types import learn_types
from inferload.targets.kinds.package_check import package_trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from torch.export import ExportedProgram


class ExportedTarget(Target):
    """An ``ExportedProgram``, run as the module it unflattens to."""

    form = "export"

    def __init__(self, program: ExportedProgram, name: str | None = None) -> None:
        super().__init__(name or "exported program")
        self.program = program
        self.may_become = ("aoti",)
        self._module = program.module()
        #: Where it was saved to be handed to other processes.
        self.saved_as: Path | None = None

    def on(self, device: torch.device) -> ExportedTarget:
        """The same program with its weights and constants on a device.

        Raises:
            PlanError: this torch cannot move programs.
        """
        try:
            from torch.export.passes import move_to_device_pass
        except ImportError:
            raise PlanError(
                f"torch {torch.__version__} cannot move an exported program to {device}: export "
                "it there"
            ) from None
        return ExportedTarget(move_to_device_pass(self.program, str(device)), self.name)

    def bind(self, number: int, call_input: CallInput) -> CallInput:
        """Check structure, shapes and dtypes against what the program was exported for.

        Raises:
            PlanError: naming the argument.
        """
        return bound_to_program(self.program, number, call_input)

    def python_callable(self) -> Callable[..., Any]:
        """The unflattened module's ``__call__``."""
        bound: Callable[..., Any] = self._module.__call__
        return bound

    def modules(self) -> Sequence[torch.nn.Module]:
        """The unflattened module."""
        return (self._module,)


class AotiTarget(Target):
    """An AOTInductor package; native callers run it without the GIL, a runner for each.

    Given a path, the package is loaded when the number of callers is known. Given an object, its
    runners are those it was loaded with. ``program`` is what it was compiled from, if known: the
    package itself does not say which shapes it takes.
    """

    form = "aoti"

    def __init__(
        self,
        package: str | Path | Any,
        name: str | None = None,
        *,
        program: ExportedProgram | None = None,
    ) -> None:
        self._path = Path(package) if isinstance(package, str | Path) else None
        super().__init__(name or (self._path.name if self._path else "AOTInductor package"))
        self._loaded = None if self._path else package
        #: How many runners were loaded; ``None`` of an object, which does not say.
        self.runners: int | None = None
        self._program = program
        #: Which of several devices of its kind it is loaded to; -1: the current one.
        self._device_index = -1

    def load(self, callers: int) -> None:
        """Load the package with a runner for each caller.

        Raises:
            PlanError: it cannot be loaded.
        """
        if self._path is not None and self.runners != callers:
            self.runners = callers
            self._loaded = _load(self._path, callers, self._device_index)

    def use_device(self, device: torch.device) -> None:
        """Load it to this device.

        Raises:
            PlanError: it was compiled for another kind of device, or is loaded already.
        """
        if self._path is None:
            raise PlanError(
                f"{self.name} was loaded before, to a device of its own: give the path of the "
                ".pt2 file to have it loaded elsewhere, or leave the device out"
            )
        if self.compiled_for() not in {None, device.type}:
            raise PlanError(
                f"{self.name} was compiled for {self.compiled_for()}, and cannot run on {device}: "
                "compile it there"
            )
        self._device_index, self._loaded, self.runners = device.index or 0, None, None

    def compiled_for(self) -> str | None:
        """The kind of device it was compiled for, ``"cuda"`` or ``"cpu"``, if it says so."""
        found = self._package().loader.get_metadata().get("AOTI_DEVICE_KEY")
        return None if found is None else str(found)

    @property
    def program(self) -> ExportedProgram | None:
        """What it was compiled from, if that is known."""
        return self._program

    @property
    def path(self) -> Path | None:
        """Where the package lies; ``None`` of an object that was loaded before."""
        return self._path

    def _package(self) -> Any:
        if self._loaded is None:
            self.load(1)
        return self._loaded

    def bind(self, number: int, call_input: CallInput) -> CallInput:
        """Check the structure of the arguments, and their shapes where they are known.

        Raises:
            PlanError: naming the argument.
        """
        learn_types([call_input])
        if self._program is not None:
            return bound_to_program(self._program, number, call_input)
        in_spec = pytree.treespec_loads(self._package().loader.get_call_spec()[0])
        flat_arguments(in_spec, number, call_input)
        return call_input

    def python_callable(self) -> Callable[..., Any]:
        """The loaded package, as Python calls it: with the GIL held."""
        package: Callable[..., Any] = self._package()
        return package

    def native_callable(self, extension: ModuleType, inputs: Sequence[Sequence[CallInput]]) -> Any:
        """The loader with each caller's flat tensors."""
        loader = self._package().loader
        in_spec = pytree.treespec_loads(loader.get_call_spec()[0])
        flat = [
            [
                [t for t in flat_arguments(in_spec, n, one) if isinstance(t, torch.Tensor)]
                for n, one in enumerate(own)
            ]
            for own in inputs
        ]
        return extension.AotiModel(loader, flat)

    def run_warnings(self, callers: int) -> tuple[RunWarning, ...]:
        """Callers may wait for each other where the number of runners is not ours to set."""
        if self._path is not None or callers == 1:
            return self.notes
        return (
            *self.notes,
            RunWarning(
                code="aoti-runners",
                message=(
                    f"{callers} callers share the runners this package object was loaded with; "
                    "aoti_load_package loads one, and then callers wait for each other"
                ),
                hint="pass the path of the .pt2 file: it is loaded with a runner for each caller",
            ),
        )


def _load(path: Path, runners: int, device_index: int) -> Any:
    # importing it takes a second, which only this form should cost
    from torch._inductor.package import package as aoti_package

    if (trouble := package_trouble(path)) is not None:
        raise PlanError(trouble)
    try:
        return aoti_package.load_package(
            str(path), run_single_threaded=False, num_runners=runners, device_index=device_index
        )
    except Exception as error:
        raise PlanError(
            f"the AOTInductor package {path} cannot be loaded: {reason_of(error)}"
        ) from error


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
