"""What callers pass to the target: its order, its copies, its items, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from inferload.targets.inputs.copies import Uncopied, copied

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from inferload.log.arrays import Int32s

# The order of inputs repeats after about so many calls: 256 KiB, whatever the length of the run.
ORDER_LENGTH = 65_536
_COPYABLE = (torch.Tensor, np.ndarray, str, bytes, int, float, complex, type(None))


@dataclass(frozen=True, slots=True)
class CallInput:
    """The arguments of one call.

    ``items`` is the number of samples in its batch; if not given, dimension 0 of its first tensor
    or array with two dimensions or more, and 1 where it has none. ``drawn`` says what values were
    drawn from, where they were drawn here. ``recorded``: the file in which ``inferload.capture``
    recorded it, and which of the calls there it is of.
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    items: int | None = None
    drawn: str = ""
    recorded: tuple[str, int] | None = None


def input_order(inputs: int, calls: int | None, seed: int | Sequence[int]) -> Int32s:
    """Which input each call takes; repeated when it has come to its end.

    One shuffled deck of all inputs after another, so that runs of different lengths meet the same
    mix: with independent draws, 100 calls over inputs of different sizes differ by several per
    cent in the work they ask for.
    """
    wanted = ORDER_LENGTH if calls is None else min(calls, ORDER_LENGTH)
    decks = np.tile(np.arange(inputs, dtype=np.int32), (-(-wanted // inputs), 1))
    order: Int32s = np.random.default_rng(seed).permuted(decks, axis=1).ravel()
    return order


def owned(call_input: CallInput) -> CallInput:
    """A copy whose tensors and objects are its own, as ``copies.copied`` makes it."""
    args, kwargs, _ = copied(tuple(call_input.args), dict(call_input.kwargs))
    return replace(call_input, args=args, kwargs=kwargs)


def uncopied_of(call_input: CallInput) -> list[Uncopied]:
    """What of an input all callers share, because it cannot be copied."""
    tree = (tuple(call_input.args), dict(call_input.kwargs))
    if all(isinstance(leaf, _COPYABLE) for leaf in pytree.tree_leaves(tree)):
        return []
    return copied(*tree)[2]


def tensors_of(tree: object) -> list[torch.Tensor]:
    """The tensors in a nested container."""
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def described(call_input: CallInput) -> str:
    """One line such as ``1x3x224x224:float32, mask=1x12:int64``."""
    parts = [_described(value) for value in call_input.args]
    parts += [f"{name}={_described(value)}" for name, value in call_input.kwargs.items()]
    return ", ".join(parts) or "no arguments"


def _described(value: object) -> str:
    if isinstance(value, torch.Tensor | np.ndarray):
        array = "" if isinstance(value, torch.Tensor) else " array"
        # one of other tensors of different sizes has no shape
        nested = isinstance(value, torch.Tensor) and value.is_nested
        shape = "nested" if nested else "x".join(map(str, value.shape)) or "scalar"
        return f"{shape}:{str(value.dtype).removeprefix('torch.')}{array}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_described, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={_described(one)}" for key, one in value.items()) + "}"
    # the text of an object may be that of all of its tensors
    text = repr(value) if isinstance(value, str | bytes | int | float | complex | None) else ""
    return text if text and len(text) <= 20 else type(value).__name__


def is_same(one: Any, other: Any) -> bool:
    """Whether two values are equal: tensors and arrays of equal shape, dtype and values, too."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        alike = (one.shape, one.dtype, one.device) == (other.shape, other.dtype, other.device)
        return alike and torch.equal(one, other)
    try:
        return bool(np.all(one == other))
    except Exception:  # noqa: BLE001 - whatever its class makes of a comparison
        return False


def item_count(one: CallInput) -> int:
    """How many samples an input has: as it says, else by :func:`items_of`."""
    return items_of(tuple(one.args), one.kwargs) if one.items is None else one.items


def items_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """How many samples a call has: dimension 0 of its first tensor or array with two or more.

    Of tensors with fewer dimensions, as a step or a length, nobody can tell; where there are no
    others a call is one item.
    """
    for leaf in pytree.tree_leaves((args, dict(kwargs))):
        if isinstance(leaf, torch.Tensor | np.ndarray) and leaf.ndim > 1:
            # a nested one has no shape, and a size all the same
            return max(leaf.size(0) if isinstance(leaf, torch.Tensor) else len(leaf), 1)
    return 1
