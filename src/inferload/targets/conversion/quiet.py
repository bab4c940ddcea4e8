"""Conversions without what torch's compilers have to say about themselves."""

from __future__ import annotations

import logging
import os
import warnings
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

# What tells of a failed export beside its error.
_LOGGERS = ("torch.export", "torch.fx.experimental.symbolic_shapes")


@contextmanager
def quiet(form: str) -> Iterator[None]:
    """Without torch's warnings and, of a failed export, its graph; errors say what went wrong.

    ``INFERLOAD_DEBUG`` keeps the graph and logs, and ``TORCH_LOGS`` the logs.
    """
    debugging = bool(os.environ.get("INFERLOAD_DEBUG"))
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        warnings.filterwarnings("ignore", category=torch.jit._trace.TracerWarning)  # noqa: SLF001
        warnings.filterwarnings("ignore", category=UserWarning, module="torch")
        if form in {"export", "aoti"} and not debugging:
            stack.enter_context(_without_prints())
            if not os.environ.get("TORCH_LOGS"):
                stack.enter_context(_without_logs())
        yield


@contextmanager
def _without_prints() -> Iterator[None]:
    """Torch prints the graph of a failed export to stderr, where a model may print as well."""
    try:
        module: Any = import_module("torch.export._trace")
    except ImportError:  # another torch, which may print nothing
        yield
        return
    module.print = lambda *_, **__: None
    try:
        yield
    finally:
        vars(module).pop("print", None)


@contextmanager
def _without_logs() -> Iterator[None]:
    loggers = {one: one.level for one in map(logging.getLogger, _LOGGERS)}
    for one in loggers:
        one.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for one, level in loggers.items():
            one.setLevel(level)
