"""From what the user has to a target: objects, files and model spec strings."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.export import ExportedProgram

from inferload.errors import PlanError
from inferload.files import is_file
from inferload.log.reasons import reason_of
from inferload.plan.model import spec_parts
from inferload.plan.numbers import check_count
from inferload.plan.server import Server, is_url
from inferload.targets.base import Target
from inferload.targets.inputs.given import as_call_inputs
from inferload.targets.kinds.by_size import BySizeTarget
from inferload.targets.kinds.exported import AotiTarget, ExportedTarget
from inferload.targets.kinds.python import CallableTarget, CompiledTarget, ModuleTarget, is_compiled
from inferload.targets.kinds.script import ScriptFunctionTarget, ScriptTarget, load_script
from inferload.targets.modules import failures_told, module_by_name, module_from_file, not_there
from inferload.targets.named import check_made, check_makes, is_model, takes_inputs
from inferload.targets.remote.target import RemoteTarget

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferload.targets.inputs.call_input import CallInput


# A host and a port, or a scheme that lost a slash on its way through a Path.
_LIKE_A_HOST = re.compile(r"[\w.-]+:\d+(/|$)|(?:https?|grpcs?):/")


def as_target(model: object, name: str | None = None) -> Target:  # noqa: PLR0911 - one a form
    """Make a target of a model in any of its forms.

    Takes a spec string, the URL of a server or a ``Server``, a ``Target``, ``nn.Module``,
    ``ScriptModule``, ``ExportedProgram``, the object of ``aoti_load_package``, a path to a ``.pt``
    or ``.pt2`` file, any callable, or a mapping from a size of dimension 0 to one of these, for
    batches of fixed sizes.

    Raises:
        PlanError: it is none of these, or the file cannot be loaded.
    """
    if isinstance(model, Target):
        return model
    if isinstance(model, Server) or is_url(model):
        return RemoteTarget(model if isinstance(model, Server) else Server(str(model)), name)
    if isinstance(model, str) and is_spec(model):
        return as_target(model_from_spec(model)[0], name)
    if isinstance(model, str | Path):
        return target_from_file(Path(model))
    if isinstance(model, torch.jit.ScriptModule):
        return ScriptTarget(model, name)
    if isinstance(model, ExportedProgram):
        return ExportedTarget(model, name)
    if type(getattr(model, "loader", None)).__name__ == "AOTIModelPackageLoader":
        return AotiTarget(model, name)
    if isinstance(model, Mapping):
        return _by_size(model, name)
    if callable(model):
        return _of_callable(model, name)
    raise PlanError(
        f"a {type(model).__name__} is no model: give a module, an exported program, a callable or "
        "the path of a .pt or .pt2 file"
    )


def _by_size(programs: Mapping[Any, object], name: str | None) -> Target:
    if not programs:
        raise PlanError("a mapping of sizes to models has none: give at least one")
    for size in programs:
        check_count("a size of dimension 0", size, at_least=1)
    return BySizeTarget({size: as_target(one, name) for size, one in programs.items()}, name)


def _of_callable(model: Callable[..., Any], name: str | None) -> Target:
    if isinstance(model, torch.jit.ScriptFunction):
        return ScriptFunctionTarget(model, name)
    if is_compiled(model):
        return CompiledTarget(model, name)
    if isinstance(model, torch.nn.Module):
        return ModuleTarget(model, name)
    return CallableTarget(model, name)


def target_from_file(path: Path) -> Target:
    """Load a TorchScript ``.pt``, or a ``.pt2`` (exported program or AOTInductor package).

    Raises:
        PlanError: the file is missing, damaged or of another kind.
    """
    if not is_file(path):
        if _LIKE_A_HOST.match(str(path)):
            raise PlanError(f"{path} is no file: of a server give the whole URL, http://{path}")
        raise not_there(path)
    if path.suffix in {".pt", ".pth", ".ts"}:
        return load_script(path)
    if path.suffix != ".pt2":
        raise PlanError(
            f"{path} is no model file that inferload knows: it loads TorchScript .pt, exported or "
            "AOTInductor .pt2, and Python files as path/file.py:name"
        )
    names: list[str] = []
    with suppress(zipfile.BadZipFile, OSError), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if not names:
        raise PlanError(f"{path} cannot be read as a .pt2 file: it is damaged or no archive")
    if any("aotinductor/" in name for name in names):
        return AotiTarget(path)
    try:
        return ExportedTarget(torch.export.load(path), path.name)
    except Exception as error:
        raise PlanError(
            f"{path} cannot be loaded as an exported program: {reason_of(error)}"
        ) from error


def is_spec(text: str) -> bool:
    """Whether a text names Python, as ``path/file.py:name`` or ``package.module:name``."""
    where, name = spec_parts(text)
    return name is not None or where.endswith(".py")


def import_spec(spec: str) -> None:
    """Import the module that a spec names, so that its classes can be unpickled.

    Raises:
        PlanError: it is not there, or fails as it is imported.
    """
    path, name = spec_parts(spec)
    if path.endswith(".py"):
        module_from_file(Path(path))
    elif name is not None:
        module_by_name(path)


def model_from_spec(spec: str) -> tuple[object, tuple[CallInput, ...] | None]:
    """Read ``MODEL`` of the command line: the model, and the inputs its file defines, if any.

    ``path/file.py:name`` or ``package.module:name`` names a module, a function that takes the
    inputs, or a function without arguments or a class that makes one of these (``model`` if no name
    is given); the file may define ``inputs()`` as well. Anything else is the path of a ``.pt`` or
    ``.pt2`` file.

    Raises:
        PlanError: the file, module or name is not there, or fails as it is loaded.
    """
    path, name = spec_parts(spec)
    if path.endswith(".py"):
        module = module_from_file(Path(path))
    elif name is not None:
        module = module_by_name(path)
    else:
        return target_from_file(Path(spec)), None
    return _named(module, path, name or "model"), _inputs_of(module, path)


def inputs_from_spec(spec: str) -> tuple[CallInput, ...] | None:
    """The inputs that the file of a spec defines, if any, without making its model.

    Raises:
        PlanError: the file or module is not there, or fails as it is loaded.
    """
    path, name = spec_parts(spec)
    if path.endswith(".py"):
        return _inputs_of(module_from_file(Path(path)), path)
    return None if name is None or is_url(spec) else _inputs_of(module_by_name(path), path)


def _named(module: Any, where: str, name: str) -> object:
    if not hasattr(module, name):
        offered = [
            key
            for key, value in vars(module).items()
            if not key.startswith("_")
            and (
                isinstance(value, torch.nn.Module)
                or getattr(value, "__module__", "") == module.__name__
            )
        ]
        raise PlanError(
            f"{where} defines no {name!r}; it defines {', '.join(sorted(offered)) or 'nothing'}"
        )
    value = getattr(module, name)
    if is_model(value, name, where):
        return value
    check_makes(value, name, where)
    try:
        with failures_told(f"{name}() in {where}"):
            made = value()
    except PlanError as error:
        if not takes_inputs(value):
            raise
        raise PlanError(
            f"{error}; if {name} is the model itself, write def model(): return {name}"
        ) from error
    check_made(made, value, name, where)
    return made


def _inputs_of(module: Any, where: str) -> tuple[CallInput, ...] | None:
    make = getattr(module, "inputs", None)
    if not callable(make):
        # a list of that name is meant as well; whatever else may be something of the file's own
        return as_call_inputs(make) if isinstance(make, list | tuple) else None
    with failures_told(f"inputs() in {where}"):
        made = make()
        if made is None:
            raise PlanError(f"inputs() in {where} returned None: it must return a list of inputs")
        return _told_where(made, where)


def _told_where(made: object, where: str) -> tuple[CallInput, ...]:
    try:
        return as_call_inputs(made)
    except PlanError as error:
        raise PlanError(f"inputs() in {where}: {error}") from error
