"""Copies of arguments: tensors, containers and objects of any class, nested in any way."""

from __future__ import annotations

import copy
import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Weights and code are shared by all callers, as they are in a server.
_SHARED = (torch.nn.Module, types.ModuleType)
# An object is searched for them no further than this.
MOST_PARTS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncopied:
    """A part of an argument that could not be copied: where, of what type, and why."""

    argument: int | str
    type_name: str
    why: str


def copied(
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    remake: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> tuple[tuple[Any, ...], dict[str, Any], list[Uncopied]]:
    """Arguments whose tensors, arrays and objects of any class are their own.

    ``remake``: what makes a tensor of a tensor; a clone, a leaf of its own, if not given. An object
    that stands in two places is copied once. Modules and functions, also within objects, are
    shared, and so is whatever ``copy.deepcopy`` refuses, which is told.
    """
    memo: dict[int, Any] = {}
    uncopied: list[Uncopied] = []
    with _Remaking(remake or cloned) as remaking:

        def own(name: int | str, value: object) -> Any:
            found, _ = _tried(value, memo, remaking)
            if found is not None:
                return found[0]
            leaves, structure = pytree.tree_flatten(value)
            for place, leaf in enumerate(leaves):
                found, why = _tried(leaf, memo, remaking)
                if found is None:
                    uncopied.append(Uncopied(argument=name, type_name=type(leaf).__name__, why=why))
                else:
                    leaves[place] = found[0]
            return pytree.tree_unflatten(leaves, structure)

        return (
            tuple(own(place, value) for place, value in enumerate(args)),
            {name: own(name, value) for name, value in kwargs.items()},
            uncopied,
        )


def cloned(tensor: torch.Tensor) -> torch.Tensor:
    """A leaf with storage of its own, that requires a gradient if the tensor does."""
    # a copy made within inference_mode would be an inference tensor where this is none
    with torch.inference_mode(mode=tensor.is_inference()):
        clone = tensor.detach().clone()
    return clone.requires_grad_(True) if tensor.requires_grad else clone


def _tried(
    value: object, memo: dict[int, Any], remaking: _Remaking
) -> tuple[tuple[Any] | None, str]:
    """A copy, alone in a tuple; or ``None``, and why there is none."""
    if isinstance(value, _PLAIN):
        return (value,), ""
    if type(value) is torch.Tensor:  # most arguments: without the search below
        if id(value) not in memo:
            memo[id(value)] = remaking.remade(value)
        return (memo[id(value)],), ""
    # what fails half-way leaves parts of containers behind
    trial = dict(memo)
    try:
        for part in _apart(value):
            if isinstance(part, torch.Tensor):
                trial.setdefault(id(part), remaking.remade(part))
            else:
                trial[id(part)] = part
        found = copy.deepcopy(value, trial)
    except Exception as error:
        if remaking.trouble is not None:
            raise
        words = str(error).splitlines()
        return None, words[0] if words else type(error).__name__
    memo.update(trial)
    return (found,), ""


class _Remaking(TorchFunctionMode):
    """Has ``copy.deepcopy`` make tensors in a way of our own.

    torch's refuses tensors that are no leaves, and copies the whole storage of a part.
    """

    def __init__(self, remake: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.remake = remake
        #: What it failed with, which is no fault of the object that the tensor stands in.
        self.trouble: Exception | None = None

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        if func is not torch.Tensor.__deepcopy__:
            return func(*args, **(kwargs or {}))
        tensor, memo = args
        if id(tensor) not in memo:
            memo[id(tensor)] = self.remade(tensor)
        return memo[id(tensor)]

    def remade(self, tensor: torch.Tensor) -> torch.Tensor:
        """Another tensor in place of one."""
        try:
            return self.remake(tensor)
        except Exception as error:
            self.trouble = error
            raise


def _apart(value: object) -> Iterator[object]:
    """What ``copy.deepcopy`` must not copy in its own way: modules, and classes of tensors."""
    seen: set[int] = set()
    left = [value]
    while left and len(seen) < MOST_PARTS:
        one = left.pop()
        if isinstance(one, _PLAIN) or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, _SHARED):
            yield one
        elif not isinstance(one, torch.Tensor):
            left += parts_of(one).values()
        elif type(one).__deepcopy__ is not torch.Tensor.__deepcopy__:
            yield one


_PLAIN = (
    str, bytes, int, float, complex, type(None), type, types.FunctionType,
    types.BuiltinFunctionType, torch.dtype, torch.device,
)  # fmt: skip


def parts_of(value: Any) -> dict[Any, Any]:
    """What an object consists of, by how one gets there: ``[0]``, ``['x']``, ``.name``."""
    if isinstance(value, list | tuple | set | frozenset) or type(value).__name__ == "deque":
        found = {f"[{place}]": one for place, one in enumerate(value)}
    elif isinstance(value, dict):
        found = {f"[{key!r}]": one for key, one in value.items()}
    else:
        found = {}
    found |= {f".{name}": one for name, one in getattr(value, "__dict__", {}).items()}
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in {"__dict__", "__weakref__"} and hasattr(value, name):
                found[f".{name}"] = getattr(value, name)
    return found
