"""What this machine offers, and what is missing."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from inferload.environment import cpu_model, usable_cores
from inferload.errors import NativeBuildError
from inferload.executors.native_build import compiler, library_path, native_extension

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at: whether it is well, what was found, and what to do if not."""

    name: str
    well: bool
    found: str
    hint: str = ""


def findings(announce: Callable[[str], None]) -> list[Finding]:
    """Look at everything that a run depends on and that needs no model.

    Compiles the native callers if they are not there yet, and tells ``announce`` so.
    """
    return [_torch(), _cores(), _compiler(), _native_callers(announce)]


def _torch() -> Finding:
    return Finding(
        name="torch",
        well=True,
        found=f"{torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, "
        f"{torch.get_num_threads()} intra-op threads",
    )


def _cores() -> Finding:
    usable, present = usable_cores(), os.cpu_count() or 1
    return Finding(
        name="cores",
        well=usable >= present,
        found=f"{usable:g} of {present} usable, {cpu_model()}",
        hint="an affinity mask or a cgroup quota holds the rest back",
    )


def _compiler() -> Finding:
    path = compiler()
    return Finding(
        name="C++ compiler",
        well=path is not None,
        found=path or f"{os.environ.get('CXX', 'c++')} is not on the PATH",
        hint="install g++ or clang++, or set CXX",
    )


def _native_callers(announce: Callable[[str], None]) -> Finding:
    path = library_path()
    if not path.is_file() and compiler() is None:
        return Finding(
            name="native callers",
            well=False,
            found="not available: they are not compiled yet, and there is no C++ compiler",
            hint="until then Python threads call every target, holding the GIL",
        )
    was_there = path.is_file()
    try:
        native_extension(announce)
    except NativeBuildError as error:
        return Finding(
            name="native callers",
            well=False,
            found=f"not available: {error}",
            hint=f"until then Python threads call every target; free disk: "
            f"{shutil.disk_usage(path.anchor).free >> 20:,} MiB",
        )
    return Finding(
        name="native callers",
        well=True,
        found=f"available, {'compiled before' if was_there else 'compiled just now'}: {path}",
    )
