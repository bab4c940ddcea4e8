"""Inputs that are put together along dimension 0, and the shapes in which a model is called."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from inferload.targets.inputs.call_input import CallInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.log.arrays import Int32s

    Shape = tuple[int, ...]

# Requests of a batch that a converted model is tried with.
MOST_REPEATED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Inputs that join each other, and no others.

    ``leaves`` are those of one of them, of which ``stacked`` are the places of what is put
    together, with ``pads`` where that may be of different shapes. ``ends[shape][part]``: the
    dimensions behind dimension 0 of each stacked part; a batch of inputs of two such shapes has
    ``joins[one, other]``. ``sizes`` are those of dimension 0 that the model is called with,
    ascending; ``most`` requests make a batch full. The shapes of the group are numbered from
    ``first``. ``by_entry``: the model answers a list with an entry for each item.
    """

    owner: int
    structure: pytree.TreeSpec
    leaves: tuple[Any, ...]
    stacked: tuple[int, ...]
    arrays: tuple[int, ...]
    pads: tuple[float | None, ...]
    ends: tuple[tuple[Shape, ...], ...]
    joins: Int32s
    sizes: tuple[int, ...]
    most: int
    first: int
    by_entry: bool = False

    @property
    def shapes(self) -> int:
        """In how many shapes the model is called with a batch of this group."""
        return len(self.ends) * len(self.sizes)

    def shape_number(self, ends: int, items: int) -> int:
        """The number of the shape in which so many items are called."""
        return self.first + ends * len(self.sizes) + bisect_left(self.sizes, items)

    def shape(self, number: int) -> tuple[int, tuple[Shape, ...]]:
        """The size of dimension 0 and the other dimensions of each part, in one shape."""
        ends, size = divmod(number - self.first, len(self.sizes))
        return self.sizes[size], self.ends[ends]


@dataclass(frozen=True, slots=True, kw_only=True)
class Joining:
    """The groups of all inputs; what is ``of`` an input has a value for each of them.

    ``parts_of`` are the tensors of an input that are put together with those of others,
    ``ends_of`` the number of their shape in its group.
    """

    groups: tuple[Group, ...]
    group_of: tuple[int, ...]
    ends_of: tuple[int, ...]
    items_of: tuple[int, ...]
    parts_of: tuple[tuple[torch.Tensor, ...], ...]

    @property
    def shapes(self) -> int:
        """In how many shapes the model is called."""
        return sum(group.shapes for group in self.groups)

    @property
    def pads(self) -> bool:
        """Whether inputs of different shapes join."""
        return any(len(group.ends) > 1 for group in self.groups)

    @property
    def elements_of(self) -> tuple[int, ...]:
        """How many values of each input are put together with others."""
        return tuple(sum(part.numel() for part in parts) for parts in self.parts_of)

    def group_of_shape(self, number: int) -> Group:
        """The group that has a shape."""
        firsts = [group.first for group in self.groups]
        return self.groups[bisect_left(firsts, number + 1) - 1]

    def unlike(self, most: int) -> list[int]:
        """So many inputs at most that differ in their shapes, or do not join."""
        kinds = dict(zip(zip(self.group_of, self.ends_of, strict=True), range(10**9), strict=False))
        found = sorted(kinds.values())
        step = max(len(found) / most, 1.0)
        return [found[round(place * step)] for place in range(min(len(found), most))]

    def repeated(self, number: int, size: int | None = None) -> CallInput:
        """A batch of requests that all have the same input: some of them, or of a size."""
        group, items = self.groups[self.group_of[number]], self.items_of[number]
        size = min(group.most, MOST_REPEATED) * items if size is None else size
        leaves = list(group.leaves)
        for part, own in zip(group.stacked, self.parts_of[number], strict=True):
            made = torch.cat([own.detach()] * -(-size // items))[:size]
            leaves[part] = made.numpy() if part in group.arrays else made
        args, kwargs = pytree.tree_unflatten(leaves, group.structure)
        return CallInput(args, kwargs)

    def shape_of(self, members: Sequence[int]) -> int:
        """The number of the shape of a batch of these inputs, which join each other."""
        group = self.groups[self.group_of[members[0]]]
        ends = self.ends_of[members[0]]
        for member in members[1:]:
            ends = int(group.joins[ends, self.ends_of[member]])
        return group.shape_number(ends, sum(self.items_of[one] for one in members))
