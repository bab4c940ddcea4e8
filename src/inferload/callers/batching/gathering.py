"""Putting the inputs of a batch together, by a Python caller; gathering.h does the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inferload.callers.batching.tensors import put_together
from inferload.errors import PlanError
from inferload.targets.outputs.splitting import taken_apart

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferload.callers.batching.work import BatchWork
    from inferload.targets.outputs.splitting import Pieces


class Gathering:
    """Puts requests together in the tensors of one caller."""

    def __init__(self, work: BatchWork, caller: int, now_ns: Callable[[], int]) -> None:
        self._joining = work.joining
        self._sources = work.sources
        self._examples = work.examples
        self._into = work.into[caller]
        self._now = now_ns
        self._elements, self._items = work.joining.elements_of, work.joining.items_of
        self._members: Sequence[int] = ()
        self._name = work.target.name
        #: Whether it is done before what is timed on a device begins, with copies to it.
        self.before = bool(work.copies)
        #: How long the last batch took to be put together.
        self.took_ns = 0

    def choose(self, members: Sequence[int]) -> int:
        """The number of the shape in which these inputs are called; they are the next batch."""
        self._members = members
        return self._joining.shape_of(members)

    def begin_example(self, shape: int) -> None:
        """The next call is one of the examples."""
        self._members = self._examples[shape]
        if self.before:
            self.gather(shape)

    def gather(self, shape: int) -> None:
        """Put the next batch together."""
        began = self._now()
        group = self._joining.group_of_shape(shape)
        members = self._members
        for place, into in enumerate(self._into[shape]):
            parts = [self._sources[member][place] for member in members]
            put_together(parts, into, group.pads[place])
        self.took_ns = self._now() - began

    def around(self, shape: int, call: Callable[[], Any]) -> Callable[[], Any]:
        """What puts a batch together and makes the call with it."""
        if self.before:
            return call
        gather = self.gather

        def gathered() -> Any:
            gather(shape)
            return call()

        return gathered

    def taken_apart(self, output: Any, shape: int) -> Pieces:
        """What the model answered, by the requests of the batch.

        Raises:
            RuntimeError: it is another number of items, which fails the call as the model's own
                exceptions do.
        """
        counts = [self._items[member] for member in self._members]
        group = self._joining.group_of_shape(shape)
        size, by_entry = group.shape(shape)[0], group.by_entry
        try:
            return taken_apart(output, counts, size, self._name, by_entry=by_entry)
        except PlanError as error:
            raise RuntimeError(str(error)) from None

    def padding_ppm(self, shape: int) -> int:
        """How many millionths of what the model is given are padding."""
        whole = sum(into.numel() for into in self._into[shape])
        own = sum(self._elements[member] for member in self._members)
        return round(1e6 * (whole - own) / whole) if whole else 0
