"""TorchScript modules."""

from __future__ import annotations

import zipfile
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch

from inferload.errors import PlanError
from inferload.log.reasons import reason_of
from inferload.targets.base import Target
from inferload.targets.kinds.python import CallableTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import ModuleType

    from inferload.targets.inputs.call_input import CallInput


class ScriptTarget(Target):
    """A ``ScriptModule``; native callers run its graph without the GIL."""

    form = "script"

    def __init__(self, module: torch.jit.ScriptModule, name: str | None = None) -> None:
        super().__init__(name or str(getattr(module, "original_name", type(module).__name__)))
        self.module = module
        self.may_become = ("cudagraph",)
        #: Where it was saved to be handed to other processes.
        self.saved_as: Path | None = None

    def prepare(self, inputs: Sequence[CallInput]) -> None:
        """Have the graph optimised anew, by the calls of this run."""
        del inputs
        _forget_gradients(getattr(self.module, "forward", None))

    def bind(self, number: int, call_input: CallInput) -> CallInput:
        """Bind the arguments to ``forward``'s schema.

        Raises:
            PlanError: with torch's own words, which name the argument.
        """
        # torch's own, which binds exactly as a call does; a new one each time: it keeps its inputs
        binder = getattr(torch._C, "ThroughputBenchmark", None)  # noqa: SLF001
        if binder is not None:
            try:
                binder(self.module._c).add_input(  # noqa: SLF001
                    *call_input.args, **call_input.kwargs
                )
            except (RuntimeError, TypeError) as error:
                # the last line speaks of how torch was built
                reason = str(error).split("\nCast error details")[0].replace("\n", "; ")
                raise PlanError(
                    f"input {number} does not fit the ScriptModule: {reason}"
                ) from error
        return call_input

    def python_callable(self) -> Callable[..., Any]:
        """The module's ``__call__``."""
        bound: Callable[..., Any] = self.module.__call__
        return bound

    def native_callable(self, extension: ModuleType, inputs: Sequence[Sequence[CallInput]]) -> Any:
        """The graph of ``forward`` with each caller's bound arguments."""
        return extension.ScriptModel(
            self.module._c,  # noqa: SLF001
            [[(tuple(one.args), dict(one.kwargs)) for one in own] for own in inputs],
        )

    def modules(self) -> Sequence[torch.nn.Module]:
        """The module."""
        return (self.module,)


class ScriptFunctionTarget(CallableTarget):
    """A scripted or traced function; it has no module that native callers could run."""

    form = "script"

    def __init__(self, function: Any, name: str | None = None) -> None:
        super().__init__(function, name or str(function.name))
        self.may_become = ("cudagraph",)

    def prepare(self, inputs: Sequence[CallInput]) -> None:
        """Have the graph optimised anew, by the calls of this run."""
        del inputs
        _forget_gradients(self.python_callable())


def _forget_gradients(graph: object) -> None:
    """Forget, in inference mode, what torch made of a graph in its first calls.

    It keeps what it made, and if that records gradients every call in inference mode raises.
    """
    flush = getattr(graph, "_debug_flush_compilation_cache", None)
    if flush is not None and torch.is_inference_mode_enabled():
        flush()


def load_script(path: Path) -> ScriptTarget:
    """Load a TorchScript ``.pt`` file.

    Raises:
        PlanError: the file is missing, damaged, or not TorchScript.
    """
    names: list[str] = []
    with suppress(zipfile.BadZipFile, OSError), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if not names:
        raise PlanError(f"{path} cannot be read as a TorchScript file: it is damaged or no archive")
    if not any(name.endswith("constants.pkl") for name in names):
        raise PlanError(
            f"{path} holds a state dict or a pickled module, not TorchScript, and inferload "
            "unpickles nothing: name a Python file that builds the model, as path/file.py:name"
        )
    try:
        return ScriptTarget(torch.jit.load(path, map_location=None), path.name)
    except RuntimeError as error:
        raise PlanError(f"{path} cannot be loaded as TorchScript: {reason_of(error)}") from error
