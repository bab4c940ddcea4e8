"""What a model answers to a batch, taken apart into what each request of it gets."""

from __future__ import annotations

import numbers
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from inferload.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Pieces:
    """An output taken apart: ``pieces[request]`` are the leaves that belong to it, with views.

    ``structure``: how they hang together; ``None`` where a request has an entry of a list.
    """

    def __init__(self, columns: Sequence[Sequence[Any]], structure: pytree.TreeSpec | None) -> None:
        self._columns = columns
        self._structure = structure

    def of(self, request: int) -> Any:
        """The output of one request."""
        leaves = [column[request] for column in self._columns]
        if self._structure is None:
            return leaves[0] if len(leaves) == 1 else leaves
        return pytree.tree_unflatten(leaves, self._structure)


def taken_apart(output: Any, counts: Sequence[int], size: int, name: str) -> Pieces:
    """Take apart what a model answered to requests of so many items each, in a batch of ``size``.

    Tensors and arrays with that size in dimension 0 are split along it, and all else belongs to
    every request; where there are none, a list or tuple of so many entries has one for each item.

    Raises:
        PlanError: it is another number of items; one number or text for several is, too.
    """
    ends = list(accumulate(counts))
    if isinstance(output, torch.Tensor) and output.dim() and output.shape[0] == size:
        return Pieces([_split(output, counts, size - ends[-1])], None)
    leaves, structure = pytree.tree_flatten(output)
    batched = [_is_batch(leaf, size) for leaf in leaves]
    if any(batched):
        columns = [
            _split(leaf, counts, size - ends[-1]) if split else [leaf] * len(counts)
            for leaf, split in zip(leaves, batched, strict=True)
        ]
        return Pieces(columns, structure)
    if isinstance(output, list | tuple) and len(output) == size:
        firsts = [0, *ends[:-1]]
        return Pieces([[output[a:b] for a, b in zip(firsts, ends, strict=True)]], None)
    found = [leaf for leaf in leaves if _is_array(leaf) or (size > 1 and _is_single(leaf))]
    if not found:  # nothing that belongs to one of them
        return Pieces([[leaf] * len(counts) for leaf in leaves], structure)
    raise PlanError(another_number(name, size, [_told(leaf) for leaf in found]))


def another_number(name: str, size: int, told: Sequence[str]) -> str:
    """What is said of an output that is no batch of that size."""
    return (
        f"{name} answered a batch of {size:,} items with {', '.join(told[:3])}, and none of that "
        f"has {size:,} in dimension 0: it cannot be taken apart into answers; have the model treat "
        "dimension 0 as the batch, or leave batches (max_batch) out"
    )


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor | np.ndarray) and leaf.ndim > 0


def _is_single(leaf: Any) -> bool:
    """Whether it answers one item: a number or a text."""
    return isinstance(leaf, str | bytes | numbers.Number | np.generic) or (
        isinstance(leaf, torch.Tensor | np.ndarray) and not leaf.ndim
    )


def _told(leaf: Any) -> str:
    if _is_array(leaf):
        return "x".join(map(str, leaf.shape))
    return "one text" if isinstance(leaf, str | bytes) else "one number"


def _is_batch(leaf: Any, size: int) -> bool:
    return _is_array(leaf) and not getattr(leaf, "is_nested", False) and leaf.shape[0] == size


def _split(leaf: Any, counts: Sequence[int], rest: int) -> Sequence[Any]:
    if isinstance(leaf, np.ndarray):
        return np.split(leaf, list(accumulate(counts)))[: len(counts)]
    pieces: Sequence[Any] = leaf.split_with_sizes([*counts, rest] if rest else [*counts])
    return pieces
