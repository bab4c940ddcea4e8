"""What ``torch.export`` leads to: exported programs and AOTInductor packages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from inferload.errors import PlanError
from inferload.log.reasons import reason_of
from inferload.records.figures import RunWarning
from inferload.targets.base import Target
from inferload.targets.kinds.known_types import learn_types
from inferload.targets.kinds.package_check import package_trouble
from inferload.targets.kinds.package_shapes import PackageShapes
from inferload.targets.kinds.program_inputs import (
    argument_names,
    bound_to_program,
    flat_arguments,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from torch.export import ExportedProgram

    from inferload.targets.inputs.call_input import CallInput


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
    package itself only says when it is called whether it takes a shape.
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
        self._shapes = PackageShapes(lambda: _load(Path(package), 1, self._device_index))
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
        leaves = flat_arguments(in_spec, number, call_input)
        if self._path is not None:
            named = zip(argument_names(in_spec), leaves, strict=True)
            tensors = {name: leaf for name, leaf in named if isinstance(leaf, torch.Tensor)}
            self._shapes.check(number, call_input, tensors)
        return call_input

    def prepare(self, inputs: Sequence[CallInput]) -> None:
        """Let go of what checked their shapes."""
        super().prepare(inputs)
        self._shapes.let_go()

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
