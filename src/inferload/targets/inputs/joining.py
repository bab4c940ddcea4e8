"""Which inputs may be put together along dimension 0: those that differ in values alone."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from inferload.errors import PlanError
from inferload.records.batches import EVERY_ARGUMENT, BatchSpec
from inferload.targets.inputs.call_input import CallInput, described, is_same
from inferload.targets.inputs.joined import Group, Joining

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    Shape = tuple[int, ...]

# Each caller has tensors for every shape in which the model may be called.
MOST_SHAPES = 65_536
_NO_CLASS = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """One input taken apart: all leaves, and of those that are stacked the tensors."""

    number: int
    structure: pytree.TreeSpec
    leaves: tuple[Any, ...]
    stacked: dict[int, torch.Tensor]
    arrays: tuple[int, ...]
    pads: tuple[float | None, ...]
    items: int
    ends: tuple[Shape, ...]


def joining_of(
    given: Sequence[CallInput],
    spec: BatchSpec,
    owner_of: Callable[[int], int],
    parameters_of: Callable[[int], Sequence[str]],
) -> Joining:
    """Say which inputs join: those of one owner that differ in values and padded lengths alone.

    How many items an input has is dimension 0 of its first tensor with one; tensors of that size
    are put together, and all else must be equal. ``parameters_of`` are the names of the positional
    parameters of what an input is called with, as far as they are known.

    Raises:
        PlanError: an input has nothing to be put together along, or cannot be.
    """
    names = [_names(one, parameters_of(number)) for number, one in enumerate(given)]
    _check_names(names, spec)
    taken = [_taken(number, one, names[number], spec) for number, one in enumerate(given)]
    _check_others(names, taken)
    constants = _Constants()
    keys: dict[tuple[int, Hashable], list[_Taken]] = {}
    for one in taken:
        # of one model first, so that the shapes of each follow each other
        key = (owner_of(one.number), _key(one, constants, by_items=bool(spec.sizes_allowed)))
        keys.setdefault(key, []).append(one)
    groups: list[Group] = []
    group_of, ends_of = [0] * len(given), [0] * len(given)
    for (owner, _), members in sorted(keys.items(), key=lambda pair: pair[0][0]):
        first = groups[-1].first + groups[-1].shapes if groups else 0
        group, own = _group(given, owner, members, spec, first)
        for one in members:
            group_of[one.number], ends_of[one.number] = len(groups), own[one.ends]
        groups.append(group)
    return Joining(
        groups=tuple(groups),
        group_of=tuple(group_of),
        ends_of=tuple(ends_of),
        items_of=tuple(one.items for one in taken),
        parts_of=tuple(tuple(one.stacked.values()) for one in taken),
    )


def size_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """The size of a batch: dimension 0 of its first tensor that has one; 0 of none."""
    leaves = pytree.tree_leaves((args, dict(kwargs)))
    found = (tensor for leaf in leaves if (tensor := _as_tensor(leaf)) is not None)
    first = next(found, None)
    return 0 if first is None else first.shape[0]


def _check_names(names: Sequence[Sequence[Sequence[str]]], spec: BatchSpec) -> None:
    named = spec.pad.keys() - {EVERY_ARGUMENT}
    there = {name for of_input in names for of_leaf in of_input for name in of_leaf}
    for name in sorted(named - there):
        raise PlanError(
            f"padding is given for {name!r}, which no input has: name one of "
            f"{', '.join(sorted(there))}"
        )


def _names(one: CallInput, parameters: Sequence[str]) -> list[list[str]]:
    """What each leaf may be called: by its place or parameter, and its key in a mapping."""
    paths = pytree.tree_flatten_with_path((tuple(one.args), dict(one.kwargs)))[0]
    found = []
    for path, _ in paths:
        keys = [str(getattr(key, "key", getattr(key, "idx", ""))) for key in path]
        names = [keys[1]]
        if keys[0] == "0" and int(keys[1]) < len(parameters):
            names.insert(0, parameters[int(keys[1])])
        found.append([*names, keys[-1]] if len(keys) > 2 else names)
    return found


def _taken(number: int, one: CallInput, names: Sequence[Sequence[str]], spec: BatchSpec) -> _Taken:
    leaves, structure = pytree.tree_flatten((tuple(one.args), dict(one.kwargs)))
    tensors = {place: t for place, leaf in enumerate(leaves) if (t := _as_tensor(leaf)) is not None}
    if not tensors:
        raise PlanError(
            f"input {number} ({described(one)}) has no tensor with a dimension 0 that requests "
            "could be put together along: give it one (1x128), or leave batches (max_batch) out"
        )
    items = next(iter(tensors.values())).shape[0]
    stacked = {place: tensor for place, tensor in tensors.items() if tensor.shape[0] == items}
    pads: list[float | None] = []
    for place, tensor in stacked.items():
        if tensor.requires_grad:
            raise PlanError(
                f"argument {names[place][0]} of input {number} requires gradients, which the "
                "tensors that requests are put together in cannot have: call requires_grad_() in "
                "the model"
            )
        pads.append(_pad_of(names[place], tensor, spec))
    return _Taken(
        number=number,
        structure=structure,
        leaves=tuple(leaves),
        stacked=stacked,
        arrays=tuple(place for place in stacked if isinstance(leaves[place], np.ndarray)),
        pads=tuple(pads),
        items=items,
        ends=tuple(tuple(tensor.shape[1:]) for tensor in stacked.values()),
    )


def _as_tensor(leaf: Any) -> torch.Tensor | None:
    """What may be stacked: a dense tensor or an array of numbers that is not empty."""
    if isinstance(leaf, np.ndarray) and leaf.ndim and len(leaf):
        try:
            return torch.from_numpy(np.ascontiguousarray(leaf))
        except (TypeError, ValueError):
            return None
    if not isinstance(leaf, torch.Tensor) or leaf.is_nested or leaf.layout != torch.strided:
        return None
    return leaf if leaf.dim() and leaf.shape[0] and not leaf.is_quantized else None


def is_channels_last(tensor: torch.Tensor) -> bool:
    """Whether an image has its channels as the innermost dimension in memory."""
    return (
        tensor.dim() == 4
        and not tensor.is_contiguous()
        and tensor.is_contiguous(memory_format=torch.channels_last)
    )


def _pad_of(names: Sequence[str], tensor: torch.Tensor, spec: BatchSpec) -> float | None:
    named = [spec.pad[name] for name in names if name in spec.pad]
    value = named[0] if named else spec.pad.get(EVERY_ARGUMENT)
    if value is None or tensor.dim() < 2:
        return None
    whole = not (tensor.dtype.is_floating_point or tensor.dtype.is_complex)
    if whole and not float(value).is_integer():
        raise PlanError(
            f"{names[0]} is padded with {value:g}, and has {str(tensor.dtype)[6:]}: give a whole "
            "number"
        )
    if whole and not _limits(tensor.dtype)[0] <= value <= _limits(tensor.dtype)[1]:
        raise PlanError(
            f"{names[0]} is padded with {value:g}, which {str(tensor.dtype)[6:]} cannot hold"
        )
    return value


def _limits(dtype: torch.dtype) -> tuple[int, int]:
    if dtype == torch.bool:
        return 0, 1
    return torch.iinfo(dtype).min, torch.iinfo(dtype).max


def _check_others(names: Sequence[Sequence[Sequence[str]]], taken: Sequence[_Taken]) -> None:
    """Refuse tensors with another dimension 0 than the batch's that are not the same for all."""
    first: dict[int, tuple[int, torch.Tensor]] = {}
    for one in taken:
        for place, leaf in enumerate(one.leaves):
            if place in one.stacked or not isinstance(leaf, torch.Tensor) or not leaf.dim():
                continue
            number, other = first.setdefault(place, (one.number, leaf))
            if not is_same(other, leaf) and taken[number].structure == one.structure:
                raise PlanError(
                    f"argument {names[one.number][place][0]} of input {one.number} has "
                    f"{leaf.shape[0]} in dimension 0 where the first tensor has {one.items}, and "
                    f"differs from that of input {number}: what requests do not share must have "
                    "the batch as dimension 0"
                )


class _Constants:
    """Numbers values that are equal the same."""

    def __init__(self) -> None:
        self._known: dict[int, list[Any]] = {}

    def number(self, place: int, value: Any) -> int:
        known = self._known.setdefault(place, [])
        for number, one in enumerate(known):
            if is_same(one, value):
                return number
        known.append(value)
        return len(known) - 1


def _key(one: _Taken, constants: _Constants, *, by_items: bool) -> Hashable:
    """What two inputs must have in common to join; all of a fixed size must have as many items."""
    parts: list[Any] = []
    pads = dict(zip(one.stacked, one.pads, strict=True))
    for place, leaf in enumerate(one.leaves):
        tensor = one.stacked.get(place)
        if tensor is None:
            parts.append(constants.number(place, leaf))
            continue
        shape = tuple(tensor.shape[1:]) if pads[place] is None else tensor.dim()
        kind = (tensor.dtype, tensor.device, is_channels_last(tensor), place in one.arrays)
        parts.append((shape, *kind))
    return (str(one.structure), tuple(parts), one.items if by_items else None)


def _group(
    given: Sequence[CallInput],
    owner: int,
    members: Sequence[_Taken],
    spec: BatchSpec,
    first: int,
) -> tuple[Group, dict[tuple[Shape, ...], int]]:
    one = members[0]
    ends = _closed(list(dict.fromkeys(member.ends for member in members)))
    numbers = {shape: number for number, shape in enumerate(ends)}
    items = [member.items for member in members]
    most = spec.max_batch
    if spec.sizes_allowed:
        if items[0] > spec.sizes_allowed[-1]:
            raise PlanError(
                f"input {one.number} ({described(given[one.number])}) has {items[0]:,} items, and "
                f"the largest size allowed is {spec.sizes_allowed[-1]:,}: allow a larger one"
            )
        sizes = tuple(size for size in spec.sizes_allowed if size >= items[0])
        most = min(most, sizes[-1] // items[0])
        used = bisect_left(sizes, most * items[0]) + 1
        sizes = sizes[:used]
    elif len(set(items)) == 1:
        sizes = tuple(range(items[0], most * items[0] + 1, items[0]))
    else:
        sizes = tuple(range(min(items), most * max(items) + 1))
    if first + len(ends) * len(sizes) > MOST_SHAPES:
        raise PlanError(
            f"batches of up to {spec.max_batch:,} requests have more than {MOST_SHAPES:,} shapes, "
            "each of which is made beforehand: allow fewer sizes (--batch-sizes-allowed "
            "1,2,4,8,16), or a smaller max_batch"
        )
    joins = np.empty((len(ends), len(ends)), np.int32)
    for row, a in enumerate(ends):
        joins[row] = [numbers.get(_joined(a, b), _NO_CLASS) for b in ends]
    return Group(
        owner=owner,
        structure=one.structure,
        leaves=one.leaves,
        stacked=tuple(one.stacked),
        arrays=one.arrays,
        pads=one.pads,
        ends=tuple(ends),
        joins=joins,
        sizes=sizes,
        most=most,
        first=first,
    ), numbers


def _joined(one: tuple[Shape, ...], other: tuple[Shape, ...]) -> tuple[Shape, ...]:
    return tuple(tuple(map(max, a, b)) for a, b in zip(one, other, strict=True))


def _closed(ends: list[tuple[Shape, ...]]) -> list[tuple[Shape, ...]]:
    """With the shapes of all batches of these."""
    found = dict.fromkeys(ends)
    for one in ends:
        for other in list(found):
            found.setdefault(_joined(one, other))
            if len(found) > MOST_SHAPES // 16:
                raise PlanError(
                    f"inputs of {len(ends):,} shapes are padded to more than {len(found):,}: give "
                    "inputs of fewer shapes, or pad fewer arguments"
                )
    return sorted(found, key=lambda shapes: [*map(prod, shapes), *accumulate(map(prod, shapes))])
