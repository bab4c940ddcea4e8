"""Inputs stacked along dimension 0 to batches of another size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from inferload.errors import PlanError
from inferload.log.failures import in_short
from inferload.targets.inputs.call_input import CallInput, described, is_same

if TYPE_CHECKING:
    from collections.abc import Sequence


def stacked(given: Sequence[CallInput], size: int) -> tuple[CallInput, ...]:
    """As many batches of ``size`` items as there are inputs, or as their items give, at least one.

    The items of all inputs are taken one after another, and again if they are too few. How many an
    input has is dimension 0 of its first tensor; tensors with another dimension 0, and whatever is
    no tensor, must be the same in all inputs.

    Raises:
        PlanError: the inputs differ in something else than dimension 0.
    """
    flat = [pytree.tree_flatten((tuple(one.args), dict(one.kwargs))) for one in given]
    structure = flat[0][1]
    counts = [_items(number, one, flat[number][0]) for number, one in enumerate(given)]
    for number, (leaves, own) in enumerate(flat):
        if own != structure:
            raise _differ(given, number, "have another structure")
        for leaf, first in zip(leaves, flat[0][0], strict=True):
            _check(given, number, (leaf, counts[number]), (first, counts[0]))
    total = sum(counts)
    batches = max(min(len(given), total // size), 1)
    repeats = -(-batches * size // total)
    columns = list(zip(*[leaves for leaves, _ in flat], strict=True))
    try:
        pools = [
            torch.cat(list(column) * repeats) if _is_stacked(column[0], counts[0]) else column[0]
            for column in columns
        ]
    except RuntimeError as error:
        raise PlanError(
            f"batches of {size:,} items cannot be made of {described(given[0])}: "
            f"{in_short(str(error)).splitlines()[0]}"
        ) from error
    found = []
    for number in range(batches):
        window = slice(number * size, (number + 1) * size)
        leaves = [
            pool[window].clone() if _is_stacked(column[0], counts[0]) else pool
            for pool, column in zip(pools, columns, strict=True)
        ]
        args, kwargs = pytree.tree_unflatten(leaves, structure)
        found.append(CallInput(args, kwargs, size, given[0].drawn))
    return tuple(found)


def _items(number: int, one: CallInput, leaves: Sequence[Any]) -> int:
    for leaf in leaves:
        if isinstance(leaf, torch.Tensor) and leaf.dim() and leaf.shape[0]:
            return int(leaf.shape[0])
    raise PlanError(
        f"input {number} ({described(one)}) has no tensor with a dimension 0 to stack along: leave "
        "the batch size out"
    )


def _is_stacked(leaf: Any, items: int) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.dim() > 0 and leaf.shape[0] == items


def _check(
    given: Sequence[CallInput], number: int, one: tuple[Any, int], other: tuple[Any, int]
) -> None:
    (leaf, items), (first, first_items) = one, other
    if leaf is first:
        return
    if _is_stacked(leaf, items) != _is_stacked(first, first_items):
        raise _differ(given, number, "have a tensor that is a batch in one of them alone")
    if _is_stacked(leaf, items):
        if leaf.shape[1:] != first.shape[1:] or leaf.dtype != first.dtype:
            raise _differ(given, number, "have other dimensions or another type")
    elif not is_same(leaf, first):
        what = "tensor that is no batch" if isinstance(leaf, torch.Tensor) else "constant"
        raise _differ(given, number, f"have another {what}")


def _differ(given: Sequence[CallInput], number: int, how: str) -> PlanError:
    return PlanError(
        f"inputs 0 ({described(given[0])}) and {number} ({described(given[number])}) cannot be "
        f"stacked along dimension 0: they {how}; pad them, or leave the batch size out"
    )
