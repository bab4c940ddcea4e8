"""Compile the native callers on first use, and find them again afterwards.

The library is cached per torch version, Python and source. Each build has a folder of its own and
its library is moved into place when it is whole, so a killed build leaves nothing that a later one
would wait for; the lock that keeps two builds from doing the same work dies with its process.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.machinery
import importlib.util
import logging
import os
import re
import shlex
import shutil
import sys
import sysconfig
import tempfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from inferload.callers.job import BLOCK_NS, FIRST_CALLS, STOP_POLL_NS
from inferload.errors import NativeBuildError
from inferload.files import is_file
from inferload.log.calls import COLUMNS, DISTINCT_ERRORS, NO_STAGE, OPTIONAL
from inferload.log.failures import FATAL_WORDS, MEMORY_WORDS
from inferload.log.ring import BLOCK_ROWS, HEADER_BYTES
from inferload.machine.caches import cache_folders, may_write
from inferload.targets.kinds.package_check import links_statically

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

#: Said before the one step that takes half a minute.
COMPILING = "compiling the native callers, once per torch version (about 30 s)"
SOURCE = Path(__file__).with_name("module.cpp")
NAME = "inferload_native_callers"
# hidden: nothing of it is for other libraries, and calls within it need no detour
FLAGS = ("-O3", "-fvisibility=hidden")
OTHER_COMPILERS = ("/usr/bin/g++", "/usr/bin/c++", "/usr/bin/clang++")


def library_path() -> Path:
    """The path of the library for this torch, this Python and this source.

    Where it was built, or else where it can be.
    """
    key = hashlib.sha256(repr((FLAGS, _source_texts())).encode()).hexdigest()[:16]
    abi = f"{sys.implementation.cache_tag}-{sysconfig.get_config_var('SOABI') or ''}"
    build = hashlib.sha256(f"{torch.__config__.show()}{abi}".encode()).hexdigest()[:8]
    folders = cache_folders()
    own = [one / f"torch-{torch.__version__}-{build}" / f"{NAME}-{key}.so" for one in folders]
    built = [path for path in own if is_file(path)]
    able = [path for path in own if may_write(path.parent)]
    return (built or able or own)[0]


def _source_texts() -> list[tuple[str, bytes]]:
    """The source and all headers beside it, which are one translation unit."""
    return [(one.name, one.read_bytes()) for one in [SOURCE, *sorted(SOURCE.parent.glob("*.h"))]]


def layout() -> dict[str, Any]:
    """What Python and the compiled callers must have alike, as ``layout`` in layout.h has it."""
    columns = {**COLUMNS, **OPTIONAL}
    return {
        "columns": tuple((name, dtype.str) for name, dtype in columns.items()),
        "optional": len(OPTIONAL),
        "header_bytes": HEADER_BYTES,
        "block_rows": BLOCK_ROWS,
        "block_ns": BLOCK_NS,
        "no_stage": NO_STAGE,
        "stop_poll_ns": STOP_POLL_NS,
        "first_calls": FIRST_CALLS,
        "distinct_errors": DISTINCT_ERRORS,
        "memory_words": MEMORY_WORDS,
        "fatal_words": FATAL_WORDS,
    }


def compiler() -> str | None:
    """The C++ compiler that a build would use, or ``None``."""
    words = shlex.split(os.environ.get("CXX", "")) or ["c++"]
    return shutil.which(words[0])


def native_extension(announce: Callable[[str], None] = lambda _: None) -> ModuleType:
    """The compiled extension; builds it where the cache has none, and says so to ``announce``.

    Raises:
        NativeBuildError: there is no compiler, the build or the import failed, or what was
            imported does not fit.
    """
    path = library_path()
    if not is_file(path):
        try:
            _build(path, announce)
        except OSError as error:
            raise NativeBuildError(
                f"the native callers could not be built in {path.parent} ({error.strerror}); "
                "set INFERLOAD_CACHE_DIR to a folder with room"
            ) from error
    extension = _imported(path)
    _check_layout(extension, path)
    return extension


def built_extension() -> ModuleType | None:
    """The compiled extension, if it was built before: nothing is compiled for its sake."""
    with suppress(NativeBuildError):
        return native_extension() if is_file(library_path()) else None
    return None


@lru_cache(maxsize=1)
def _imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        NAME, path, loader=importlib.machinery.ExtensionFileLoader(NAME, str(path))
    )
    if spec is None or spec.loader is None:
        raise NativeBuildError(f"{path} cannot be imported")
    try:
        extension = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(extension)
    except ImportError as error:
        raise NativeBuildError(
            f"the compiled native callers {path} cannot be loaded ({error}); delete the file to "
            "build them again"
        ) from error
    return extension


def _check_layout(extension: ModuleType, path: Path) -> None:
    """A column that only one side knows would make every log wrong, and nobody would see it."""
    own, its = layout(), extension.layout() if hasattr(extension, "layout") else {}
    for name in {**own, **its}:
        if own.get(name) != its.get(name):
            raise NativeBuildError(
                f"the compiled native callers {path} do not fit this inferload: {name!r} is "
                f"{its.get(name)!r} there and {own.get(name)!r} here; install inferload again, or "
                f"make {SOURCE.parent} and the Python code alike"
            )


def _build(path: Path, announce: Callable[[str], None]) -> None:
    if compiler() is None:
        raise NativeBuildError(
            f"no C++ compiler: {os.environ.get('CXX', 'c++')!r} is not on the PATH; "
            "install g++ or clang++, or set CXX"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = (path.parent / "build.lock").open("w")
    except OSError as error:
        raise NativeBuildError(
            f"the cache folder {path.parent} cannot be written ({error.strerror}); "
            "set INFERLOAD_CACHE_DIR to one that can"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_file(path):
            return
        for left_behind in path.parent.glob("build-*"):
            shutil.rmtree(left_behind, ignore_errors=True)
        sound = _sound_compiler()
        announce(COMPILING)
        with tempfile.TemporaryDirectory(prefix="build-", dir=path.parent) as folder:
            _compile(Path(folder), sound).replace(path)


def _sound_compiler() -> str:
    """The compiler to build with: another than ``CXX`` where that would make a broken library.

    With a libstdc++ of its own, the library crashes as soon as it reads or prints a number.

    Raises:
        NativeBuildError: there is no other.
    """
    own = compiler() or "c++"
    if not links_statically(own):
        return os.environ.get("CXX") or own
    for other in OTHER_COMPILERS:
        if is_file(Path(other)) and not links_statically(other):
            return other
    raise NativeBuildError(
        f"{own} links libstdc++ statically, and what it builds crashes beside torch's: set CXX to "
        "a compiler that does not"
    )


def _compile(folder: Path, compiled_by: str) -> Path:
    # a torch built for CUDA warns of a machine without it; nothing of CUDA is compiled
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from torch.utils import cpp_extension

    before = {name: os.environ.get(name) for name in ("PATH", "CXX")}
    # ninja comes with the environment, which need not be activated
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), before["PATH"] or ""])
    os.environ["CXX"] = compiled_by
    try:
        cpp_extension.load(
            NAME,
            [str(SOURCE)],
            extra_cflags=list(FLAGS),
            build_directory=str(folder),
            with_cuda=False,
            is_python_module=False,
            is_standalone=False,
        )
    except (RuntimeError, OSError, ImportError) as error:
        lines = [line for line in str(error).splitlines() if re.search(r"\berror:", line)]
        raise NativeBuildError(
            f"the native callers could not be compiled: {(lines or [str(error)])[0].strip()}"
        ) from error
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    return next(folder.glob("*.so"))
