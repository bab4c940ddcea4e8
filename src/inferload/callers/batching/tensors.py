"""The tensors that one caller puts requests together in, and what is called with them."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from inferload.targets.inputs.call_input import CallInput
from inferload.targets.inputs.joining import is_channels_last

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.targets.inputs.joined import Group, Joining


class Tensors:
    """Views of the same memory for every shape in which batches are called.

    A caller has one batch at a time, so all shapes share it: one piece for each part, as large as
    its largest shape. ``pinned``: on the host, from where it can be copied while calls go on.
    """

    def __init__(self, joining: Joining, *, pinned: bool = False) -> None:
        self._joining = joining
        self._pinned = pinned
        self._held: dict[tuple[int, torch.device], torch.Tensor] = {}
        self._sizes: dict[tuple[int, torch.device], int] = {}
        for group in joining.groups:
            for place, part in enumerate(group.stacked):
                like = as_tensor(group.leaves[part])
                most = max(prod(ends[place]) for ends in group.ends) * group.sizes[-1]
                key = self._key(place, like)
                size = -(-most * like.element_size() // 16) * 16
                self._sizes[key] = max(self._sizes.get(key, 0), size)

    def parts(self, number: int) -> list[torch.Tensor]:
        """What the parts of requests are put together in, in one shape."""
        group = self._joining.group_of_shape(number)
        size, ends = group.shape(number)
        return [
            self._view(place, as_tensor(group.leaves[part]), (size, *ends[place]))
            for place, part in enumerate(group.stacked)
        ]

    def input(self, number: int) -> CallInput:
        """What is called in one shape."""
        group = self._joining.group_of_shape(number)
        leaves = list(group.leaves)
        for part, made in zip(group.stacked, self.parts(number), strict=True):
            leaves[part] = made.numpy() if part in group.arrays else made
        args, kwargs = pytree.tree_unflatten(leaves, group.structure)
        return CallInput(args, kwargs, group.shape(number)[0])

    def _key(self, place: int, like: torch.Tensor) -> tuple[int, torch.device]:
        return place, torch.device("cpu") if self._pinned else like.device

    def _view(self, place: int, like: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        key = self._key(place, like)
        if key not in self._held:
            with torch.inference_mode(mode=False):
                self._held[key] = torch.zeros(
                    self._sizes[key], dtype=torch.uint8, device=key[1], pin_memory=self._pinned
                )
        flat = self._held[key][: prod(shape) * like.element_size()].view(like.dtype)
        if not is_channels_last(like):
            return flat.view(*shape)
        count, channels, height, width = shape
        return flat.view(count, height, width, channels).permute(0, 3, 1, 2)


def parts_in(group: Group, one: CallInput) -> list[torch.Tensor]:
    """The parts of an input that a call in one shape reads."""
    leaves = pytree.tree_leaves((tuple(one.args), dict(one.kwargs)))
    return [as_tensor(leaves[part]) for part in group.stacked]


def as_tensor(leaf: Any) -> torch.Tensor:
    """A tensor as it is, and an array as one of the same memory."""
    return leaf if isinstance(leaf, torch.Tensor) else torch.from_numpy(leaf)


def put_together(parts: Sequence[torch.Tensor], into: torch.Tensor, pad: float | None) -> None:
    """Put tensors one after another along dimension 0; what is left is filled with the last item.

    Where they are shorter in other dimensions, with ``pad``.
    """
    total = sum(part.shape[0] for part in parts)
    own = into if total == into.shape[0] else into[:total]
    ends = into.shape[1:]
    if pad is None or all(part.shape[1:] == ends for part in parts):
        torch.cat([*parts], out=own)
    else:
        own.fill_(pad)
        begin = 0
        for part in parts:
            end = begin + part.shape[0]
            place = (slice(begin, end), *map(slice, part.shape[1:]))
            own[place].copy_(part, non_blocking=True)
            begin = end
    if own is not into:
        into[total:] = own[-1:]
