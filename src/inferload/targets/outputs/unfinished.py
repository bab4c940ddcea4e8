"""Calls that return before their work is done: coroutines, generators, iterators, futures.

Generators and iterators are answers in pieces, which callers use up, and they wait for futures;
tasks of an event loop do so with coroutines and asynchronous generators. What nobody brings to its
end is refused: its speed would mean nothing.
"""

from __future__ import annotations

import concurrent.futures
import functools
import inspect
from collections.abc import AsyncIterable, Awaitable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from inferload.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Callable

#: What :func:`kind_of` says of answers in pieces, and of those that come later.
STREAMS = frozenset({"a generator", "an iterator"})
FUTURE = "a future"
ASYNC_STREAM = "an asynchronous generator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """What calls return in place of their answer, as far as a definition says so."""

    in_pieces: bool = False
    asynchronous: bool = False

    @classmethod
    def of(cls, function: Any) -> Answering:
        """Of a callable or a module."""
        behind = _behind(function)
        stream, own = (
            any(map(is_kind, behind))
            for is_kind in (inspect.isgeneratorfunction, inspect.iscoroutinefunction)
        )
        both = any(map(inspect.isasyncgenfunction, behind))
        return cls(in_pieces=stream or both, asynchronous=own or both)

    @property
    def later(self) -> bool:
        """Whether the answer is not there when a call returns."""
        return self.in_pieces or self.asynchronous


def check_returned(output: object, name: str) -> None:
    """Refuse a call that returned something that has its work still to do.

    Raises:
        PlanError: naming what it returned; a coroutine is closed.
    """
    kind = kind_of(output)
    if kind is None:
        _check_parts(output, name)
        return
    if inspect.iscoroutine(output) or inspect.isgenerator(output):
        output.close()  # or Python says of it, when it is let go of, that it was never awaited
    raise _refusal(name, kind)


def _check_parts(output: object, name: str) -> None:
    for one in pytree.tree_leaves(output):
        kind = None if one is output else kind_of(one)
        if kind not in {None, "a module"}:
            raise PlanError(
                f"what a call of {name} returns holds {kind}, whose work is still to be done, so "
                "its speed would mean nothing: name a function that brings it to its end and "
                "returns what it gives"
            )


def kind_of(output: object) -> str | None:
    """What a call returned in place of a result, if it did."""
    if isinstance(output, torch.Tensor):
        return None
    found = (
        ("a coroutine", inspect.iscoroutine(output)),
        (ASYNC_STREAM, isinstance(output, AsyncIterable)),
        ("a generator", inspect.isgenerator(output)),
        (FUTURE, isinstance(output, FUTURES)),
        ("an awaitable", isinstance(output, Awaitable)),
        ("an iterator", isinstance(output, Iterator)),
        ("a module", isinstance(output, torch.nn.Module)),
    )
    return next((kind for kind, is_it in found if is_it), None)


FUTURES = (concurrent.futures.Future, torch.futures.Future, torch._C.Future)  # noqa: SLF001
_WAYS = {
    "a generator": "def predict(x): return list(model(x))",
    "an iterator": "def predict(x): return list(model(x))",
    FUTURE: "def predict(x): return model(x).result()",
    "a module": "def model(): return make(arguments)",
}


def _refusal(name: str, kind: str) -> PlanError:
    if kind == "a module":
        return PlanError(
            f"a call of {name} returns a module and computes nothing: name a function without "
            f"arguments that returns the model, such as {_WAYS[kind]}"
        )
    if kind not in _WAYS:
        return PlanError(
            f"a call of {name} returns {kind}, which nobody awaits here: have tasks of an event "
            "loop call it (--executor async), which auto does where the definition says so (async "
            "def predict(x): return await model(x))"
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
