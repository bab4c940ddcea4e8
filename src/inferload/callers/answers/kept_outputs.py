"""Copies of some outputs of one Python caller, to be compared with those computed alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inferload.targets.outputs.comparing import Leaves, leaves

if TYPE_CHECKING:
    from inferload.targets.base import Target


class Keeper:
    """Copies some outputs of one caller, as ``Keeper`` in kept_outputs.h.

    Every call's at first; when there is no more room every second one is dropped, and only every
    second call is copied from then on.
    """

    def __init__(self, room: int, target: Target) -> None:
        #: Pairs of an input's number and the leaves of what was returned, which are copies.
        self.kept: list[tuple[int, Any]] = []
        self.calls_until_next = 0 if room else 2**62
        self._room = room
        self._values_of = target.values_of
        self._stride = 1

    def keep(self, number: int, output: Any) -> int:
        """Keep a copy of what was returned for an input; how many calls later to keep the next."""
        self.kept.append((number, Leaves(leaves(self._values_of(number, output)))))
        if len(self.kept) == self._room:
            self.kept = self.kept[::2]
            self._stride *= 2
        return self._stride
