"""What requests get when they are alone, and why they get something else in a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inferload.callers.batching.tensors import Tensors, put_together
from inferload.targets.outputs.comparing import leaves, tensors_among
from inferload.targets.outputs.splitting import taken_apart
from inferload.targets.outputs.verification import differs_in_batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.callers.batching.work import BatchWork
    from inferload.targets.base import Target


class Apart:
    """Calls a target with batches apart from any caller, in memory of its own."""

    def __init__(self, work: BatchWork, target: Target) -> None:
        self._work = work
        self._target = target

    def answers(self, members: Sequence[int]) -> list[Any]:
        """What each of these inputs gets when they are called together."""
        joining = self._work.joining
        shape = joining.shape_of(members)
        group = joining.group_of_shape(shape)
        tensors = Tensors(joining)
        for place, into in enumerate(tensors.parts(shape)):
            parts = [joining.parts_of[member][place].detach() for member in members]
            put_together(parts, into, group.pads[place])
        one = tensors.input(shape)
        output = self._target.callable_for(members[0])(*one.args, **one.kwargs)
        counts = [joining.items_of[member] for member in members]
        size, name = group.shape(shape)[0], self._target.name
        pieces = taken_apart(output, counts, size, name, by_entry=group.by_entry)
        return [pieces.of(place) for place in range(len(members))]

    def alone(self, number: int) -> Any:
        """What an input gets in a batch without others."""
        return self.answers([number])[0]

    def cause(self, number: int, expected: Sequence[Any]) -> str | None:
        """Why an input gets something else beside others; ``None`` if it does not, called alone.

        ``"shape"``: beside one of its own shape an output has another shape; ``"neighbours"``: or
        other values; ``"padding"``: beside a longer one, and not beside one of its own shape.
        """
        joining = self._work.joining
        others = [
            other
            for other, group in enumerate(joining.group_of)
            if group == joining.group_of[number] and other != number
        ]
        own = [one for one in others if joining.ends_of[one] == joining.ends_of[number]]
        most = joining.groups[joining.group_of[number]].most
        if most < 2:
            return None
        for cause, beside in (
            ("neighbours", own or [number]),
            ("padding", [one for one in others if one not in own]),
        ):
            if not beside:
                continue
            found = leaves(self.answers([number, *beside][:most])[0])
            if cause == "neighbours" and _shapes(found) != _shapes(expected):
                return "shape"
            if differs_in_batch(expected, found):
                return cause
        return None


def _shapes(found: Sequence[Any]) -> list[Any]:
    return [one.shape for one in tensors_among(found)]
