"""What a model answers to a batch, taken apart into what each request of it gets."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from inferload.errors import PlanError
from inferload.targets.outputs.comparing import tensors_in
from inferload.units import count_text

if TYPE_CHECKING:
    from collections.abc import Sequence


class Pieces:
    """An output taken apart: ``of(request)`` is what belongs to it, with views.

    ``columns[leaf][request]``; ``structure``: how they hang together, ``None`` where a request has
    an entry of a list. ``ends[request]``: where its items end, of ``size`` in all.
    """

    def __init__(
        self,
        columns: Sequence[Sequence[Any]],
        structure: pytree.TreeSpec | None,
        ends: Sequence[int],
        size: int,
    ) -> None:
        self._columns = columns
        self._structure = structure
        self._ends, self._size = ends, size

    def of(self, request: int) -> Any:
        """The output of one request; of an object of a class that nobody knows its tensors."""
        leaves = [self._within(column[request], request) for column in self._columns]
        if self._structure is None:
            return leaves[0] if len(leaves) == 1 else leaves
        return pytree.tree_unflatten(leaves, self._structure)

    def _within(self, leaf: Any, request: int) -> Any:
        if _is_array(leaf) or _is_single(leaf) or leaf is None or isinstance(leaf, list | tuple):
            return leaf
        first = self._ends[request - 1] if request else 0
        own = slice(first, self._ends[request])
        found = [one[own] if _is_batch(one, self._size) else one for one in tensors_in(leaf)]
        return found or leaf


def taken_apart(
    output: Any, counts: Sequence[int], size: int, name: str, *, by_entry: bool = False
) -> Pieces:
    """Take apart what a model answered to requests of so many items each, in a batch of ``size``.

    Tensors and arrays with that size in dimension 0 are split along it, and all else belongs to
    every request. ``by_entry``: it answers a list (or tuple) with an entry for each item.

    Raises:
        PlanError: it is another number of items; one number or text for several is, too.
    """
    ends = list(accumulate(counts))
    if by_entry:
        if not isinstance(output, list | tuple) or len(output) != size:
            raise PlanError(another_number(name, size, [_told(output)]))
        firsts = [0, *ends[:-1]]
        entries = [output[first:end] for first, end in zip(firsts, ends, strict=True)]
        return Pieces([entries], None, ends, size)
    if isinstance(output, torch.Tensor) and output.dim() and output.shape[0] == size:
        return Pieces([_split(output, counts, size - ends[-1])], None, ends, size)
    leaves, structure = pytree.tree_flatten(output)
    if any(_is_unfolded(leaf) for leaf in leaves):
        leaves, structure = pytree.tree_flatten(_unfolded(output))
    batched = [_is_batch(leaf, size) for leaf in leaves]
    if any(batched):
        columns = [
            _split(leaf, counts, size - ends[-1]) if split else [leaf] * len(counts)
            for leaf, split in zip(leaves, batched, strict=True)
        ]
        return Pieces(columns, structure, ends, size)
    found = [leaf for leaf in leaves if _is_array(leaf) or (size > 1 and _is_single(leaf))]
    if not found:  # nothing that belongs to one of them
        return Pieces([[leaf] * len(counts) for leaf in leaves], structure, ends, size)
    raise PlanError(another_number(name, size, [_told(leaf) for leaf in found]))


def answers_by_entry(outputs: Mapping[int, Any]) -> bool:
    """Whether a model answers a list with an entry for each item; ``outputs``: by their sizes.

    By the number of entries, if that tells; else every tensor that has the size in dimension 0
    says that it is a batch.
    """
    fitting = [size for size, output in outputs.items() if _has_entries(output, size)]
    if len(fitting) < len(outputs):
        return False
    if len(fitting) > 1 or fitting == [1]:  # of one request, the list is its own in any case
        return True
    arrays = [
        (leaf, size)
        for size, output in outputs.items()
        for leaf in pytree.tree_leaves(output)
        if _is_array(leaf)
    ]
    return not arrays or not all(_is_batch(leaf, size) for leaf, size in arrays)


def _has_entries(output: Any, size: int) -> bool:
    named = hasattr(output, "_fields")
    return isinstance(output, list | tuple) and not named and len(output) == size


def another_number(name: str, size: int, told: Sequence[str]) -> str:
    """What is said of an output that is no batch of that size."""
    return (
        f"{name} answered a batch of {count_text(size, 'item')} with {', '.join(told[:3])}, and "
        f"none of that has {size:,} in dimension 0: it cannot be taken apart into answers; have "
        "the model treat dimension 0 as the batch, or leave batches (max_batch) out"
    )


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor | np.ndarray) and leaf.ndim > 0


def _is_single(leaf: Any) -> bool:
    """Whether it answers one item: a number or a text."""
    return isinstance(leaf, str | bytes | numbers.Number | np.generic) or (
        isinstance(leaf, torch.Tensor | np.ndarray) and not leaf.ndim
    )


def _is_unfolded(leaf: Any) -> bool:
    """Whether it is a container that pytree does not know."""
    return isinstance(leaf, Mapping) or (
        dataclasses.is_dataclass(leaf) and not isinstance(leaf, type)
    )


def _unfolded(output: Any) -> Any:
    """With dictionaries for such containers."""

    def one(leaf: Any) -> Any:
        if isinstance(leaf, Mapping):
            return {key: _unfolded(value) for key, value in leaf.items()}
        if _is_unfolded(leaf):
            fields = [field.name for field in dataclasses.fields(leaf)]
            return {name: _unfolded(getattr(leaf, name, None)) for name in fields}
        return leaf

    return pytree.tree_map(one, output)


def _told(leaf: Any) -> str:
    if _is_array(leaf):
        return "x".join(map(str, leaf.shape))
    if isinstance(leaf, list | tuple):
        return f"a {type(leaf).__name__} of {len(leaf):,}"
    if isinstance(leaf, str | bytes):
        return "one text"
    return "one number" if _is_single(leaf) else f"a {type(leaf).__name__}"


def _is_batch(leaf: Any, size: int) -> bool:
    return _is_array(leaf) and not getattr(leaf, "is_nested", False) and leaf.shape[0] == size


def _split(leaf: Any, counts: Sequence[int], rest: int) -> Sequence[Any]:
    if isinstance(leaf, np.ndarray):
        return np.split(leaf, list(accumulate(counts)))[: len(counts)]
    pieces: Sequence[Any] = leaf.split_with_sizes([*counts, rest] if rest else [*counts])
    return pieces
