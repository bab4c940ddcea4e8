"""Modules of the user's that a spec names, by a file or by their name, imported."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inferload.errors import PlanError
from inferload.files import is_file, is_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

# The names of modules that were loaded from files that a spec named.
_loaded: set[str] = set()


def module_from_file(path: Path) -> Any:
    """Run a file as the module by which processes that its model starts find it.

    Raises:
        PlanError: it is not there, or fails.
    """
    if not is_file(path):
        raise not_there(path)
    name = _in_its_package(path) or _name_of(path)
    with failures_told(str(path)):
        _import_package(name.rpartition(".")[0], path)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PlanError(f"{path} cannot be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _loaded.add(name)
    with failures_told(str(path)):
        spec.loader.exec_module(module)
    return module


def module_by_name(name: str) -> Any:
    """Import ``package.module``, from the working directory too.

    Raises:
        PlanError: there is none, or it fails.
    """
    if not name or "/" in name:
        raise PlanError(f"{name!r} is neither a Python file nor the name of a module")
    _find_first("")
    with failures_told(f"module {name}"):
        return importlib.import_module(name)


def not_there(path: Path) -> PlanError:
    """What to say of a path at which no file can be seen."""
    try:
        path.stat()
    except PermissionError as error:
        return PlanError(f"the model file {path} cannot be read: {error.strerror}")
    except (OSError, ValueError):
        pass
    if is_folder(path) and not is_file(path / "__init__.py"):
        return _is_folder(path)
    if _is_module(str(path)):
        return PlanError(
            f"there is no model file {path}; of a module, name what the model is in it, as "
            f"{path}:model"
        )
    return _is_folder(path) if is_folder(path) else PlanError(f"there is no model file {path}")


def _is_module(text: str) -> bool:
    """Whether a text names a module, or one in a package that there is."""
    names = text.split(".")
    _find_first("")
    with suppress(ValueError, ImportError):  # of a module that does not say where it is from
        return all(map(str.isidentifier, names)) and importlib.util.find_spec(names[0]) is not None
    return False


def _is_folder(path: Path) -> PlanError:
    return PlanError(f"{path} is a folder: name a file in it, as {path / 'model.py'}:model")


def _in_its_package(path: Path) -> str | None:
    """As what to import a file that imports its neighbours by dots; its package is found then."""
    dots = 0
    with suppress(OSError, SyntaxError, ValueError, RecursionError):  # running it says it better
        found = ast.walk(ast.parse(path.read_bytes()))
        dots = max((one.level for one in found if isinstance(one, ast.ImportFrom)), default=0)
    if not dots:
        return None
    folder = path.resolve().parent
    names = [] if path.stem == "__init__" else [path.stem]
    while len(names) <= dots or is_file(folder / "__init__.py"):
        if not folder.name:
            return None
        names.insert(0, folder.name)
        folder = folder.parent
    if any("." in one for one in names):
        return None
    _find_first(str(folder))
    own = str(path.resolve().parent)
    if own not in sys.path:  # the last: its types.py is for whoever asks for it by dots
        sys.path.append(own)
    return ".".join(names)


def _import_package(name: str, path: Path) -> None:
    """Import the package that a file is in, if any."""
    if not name:
        return
    found = importlib.import_module(name)
    folders = [Path(one).resolve() for one in getattr(found, "__path__", ())]
    if path.resolve().parent not in folders:
        where = folders[0] if folders else getattr(found, "__file__", "a module of Python's own")
        raise PlanError(
            f"{path} imports its neighbours by dots from {name}, and another {name} is found "
            f"first ({where}): rename one of them"
        )


def _find_first(folder: str) -> None:
    """Have modules of a folder found from now on, as those beside a script that Python runs are."""
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _name_of(path: Path) -> str:
    """The name to load a file by: the one by which processes that its model starts find it."""
    _find_first(str(path.resolve().parent))
    name = path.stem
    if name.isidentifier() and (name not in sys.modules or name in _loaded):
        found = importlib.util.find_spec(name)
        if found is not None and found.origin and Path(found.origin).resolve() == path.resolve():
            return name
    return f"inferload_model_{name}"


@contextmanager
def failures_told(what: str) -> Iterator[None]:
    """Say in one sentence what failed, and where in the user's code."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*torch.jit.*deprecated")
            yield
    except PlanError:
        raise
    except (Exception, SystemExit) as error:
        last = error.__traceback__
        while last is not None and last.tb_next is not None:
            last = last.tb_next
        where = f" ({last.tb_frame.f_code.co_filename}:{last.tb_lineno})" if last else ""
        raise PlanError(f"{what} failed: {type(error).__name__}: {error}{where}") from error
