"""Models whose call returns before its work is done: coroutines, generators, iterators, futures."""

from __future__ import annotations

import concurrent.futures
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from inferload.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Callable

_KINDS = (
    (inspect.iscoroutinefunction, "a coroutine"),
    (inspect.isasyncgenfunction, "an asynchronous generator"),
    (inspect.isgeneratorfunction, "a generator"),
)


def check_signature(function: Any, name: str) -> None:
    """Refuse a model whose call does no work, as far as its definition says so.

    Raises:
        PlanError: it is asynchronous, or a generator.
    """
    for one in _behind(function):
        for is_kind, kind in _KINDS:
            if is_kind(one):
                raise _refusal(name, kind)


def check_returned(output: object, name: str) -> None:
    """Refuse a model whose call returned something that has its work still to do.

    Raises:
        PlanError: naming what it returned; a coroutine is closed.
    """
    kind = _kind_of(output)
    if kind is None:
        _check_parts(output, name)
        return
    if inspect.iscoroutine(output) or inspect.isgenerator(output):
        output.close()  # or Python says of it, when it is let go of, that it was never awaited
    raise _refusal(name, kind)


def _check_parts(output: object, name: str) -> None:
    for one in pytree.tree_leaves(output):
        kind = None if one is output else _kind_of(one)
        if kind not in {None, "a module"}:
            raise PlanError(
                f"what a call of {name} returns holds {kind}, whose work is still to be done, so "
                "its speed would mean nothing: name a function that brings it to its end and "
                "returns what it gives"
            )


def _kind_of(output: object) -> str | None:
    """What a call returned in place of a result: one of the keys of ``_WAYS``."""
    if isinstance(output, torch.Tensor):
        return None
    found = (
        ("a coroutine", inspect.iscoroutine(output)),
        ("an asynchronous generator", isinstance(output, AsyncIterator)),
        ("a generator", inspect.isgenerator(output)),
        ("a future", isinstance(output, _FUTURES)),
        ("an awaitable", isinstance(output, Awaitable)),
        ("an iterator", isinstance(output, Iterator)),
        ("a module", isinstance(output, torch.nn.Module)),
    )
    return next((kind for kind, is_it in found if is_it), None)


_FUTURES = (concurrent.futures.Future, torch.futures.Future, torch._C.Future)  # noqa: SLF001
_WAYS = {
    "a coroutine": "def predict(x): return asyncio.run(model(x))",
    "an awaitable": "def predict(x): return asyncio.run(wait(x)), of async def wait(x): return "
    "await model(x)",
    "an asynchronous generator": "def predict(x): return asyncio.run(collect(x)), of async def "
    "collect(x): return [one async for one in model(x)]",
    "a generator": "def predict(x): return list(model(x))",
    "an iterator": "def predict(x): return list(model(x))",
    "a future": "def predict(x): return model(x).result()",
    "a module": "def model(): return make(arguments)",
}


def _refusal(name: str, kind: str) -> PlanError:
    if kind == "a module":
        return PlanError(
            f"a call of {name} returns a module and computes nothing: name a function without "
            f"arguments that returns the model, such as {_WAYS[kind]}"
        )
    return PlanError(
        f"a call of {name} returns {kind}, whose work is still to be done, so its speed would mean "
        f"nothing: name a function that brings it to its end, such as {_WAYS[kind]}"
    )


def _behind(model: Any) -> list[Callable[..., Any]]:
    """The functions that a call of a model runs first, as far as they can be seen."""
    model = getattr(model, "_orig_mod", model)
    model = getattr(model, "_torchdynamo_orig_callable", model)
    while isinstance(model, functools.partial):
        model = model.func
    if inspect.isroutine(model):
        return [inspect.unwrap(model)]
    if isinstance(model, torch.nn.Module):
        module_call = type(model).__call__
        own = [] if module_call is torch.nn.Module.__call__ else [module_call]
        forward = getattr(model, "forward", None)
        return [*own, *([inspect.unwrap(forward)] if callable(forward) else [])]
    call = getattr(type(model), "__call__", None)  # noqa: B004 - what its class defines
    return [inspect.unwrap(call)] if inspect.isroutine(call) else []
