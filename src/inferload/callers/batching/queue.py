"""The queue of requests that callers serve: what is due, and the batch that is ready."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, NamedTuple

from inferload.callers.batching.forming import Forming, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferload.callers.batching.requests import Requests

# Where the log has no room, it is looked at again so much later.
HELD_UP_NS = 1_000_000


class Batch(NamedTuple):
    """The requests of one call of the model, and its number in the queue.

    It was ready at ``ready_ns``, and a caller was free for it at ``free_ns``.
    """

    number: int
    requests: Sequence[Request]
    ready_ns: int
    free_ns: int


class RequestQueue:
    """The requests of one queue, as its callers share them; under a lock of theirs.

    ``order`` says which input each request has, repeated. ``admit(row, most)``: how many of the
    next requests, so many at most, may be admitted, which have the rows of the log from this one
    on; and of further ones ``True``: ask again, ``False``: no more are, ``None``: not yet. None is
    from row ``ends_at()`` on.
    """

    def __init__(
        self,
        requests: Requests,
        forming: Forming,
        order: Sequence[int],
        admit: Callable[[int, int], tuple[int, bool | None]],
        ends_at: Callable[[], int],
    ) -> None:
        self._requests = requests
        self._forming = forming
        self._order = order
        self._admit, self._ends_at = admit, ends_at
        self._over = False
        self._is_held_up = False
        #: How many requests have been due and seen so far: they have rows.
        self.admitted = 0
        self._batches = 0
        self.limited_to: int | None = None
        self._free: list[int] = []

    def begin(self, start_ns: int) -> None:
        """The start line was opened at this time."""
        self._requests.begin(start_ns)

    def free(self, since_ns: int) -> None:
        """Another caller is free since then, who will take the next batch or one after it."""
        heapq.heappush(self._free, since_ns)

    def take(self, now_ns: int) -> Batch | None:
        """The batch that is ready, if there is one."""
        self._admit_due(now_ns)
        found = self._forming.take(now_ns)
        if found is None:
            return None
        self._batches += 1
        free_ns = heapq.heappop(self._free)  # whoever takes it: somebody could have since then
        return Batch(self._batches - 1, found.requests, found.since_ns, free_ns)

    def _admit_due(self, now_ns: int) -> None:
        requests, order, row = self._requests, self._order, self.admitted
        self._is_held_up, ends_at = False, self._ends_at()
        # of a long backlog no more than the next batch needs
        while row < ends_at and not self._over and (room := self._forming.room(now_ns)):
            dues = requests.due_by(now_ns, row, min(room, ends_at - row))
            if not dues:
                break
            count, more = self._admit(row, len(dues))
            rows = range(row, row + count)
            place = row % len(order)
            inputs = order[place : place + count]
            if len(inputs) < count:
                inputs = [order[one % len(order)] for one in rows]
            self._forming.add([*map(Request._make, zip(rows, dues, inputs, strict=False))])
            requests.taken(count)
            self.admitted = row = row + count
            if not more and count < len(dues):
                self._over, self._is_held_up = more is False, more is None
                return
        self._over = self._over or row >= ends_at

    def look_again_ns(self, now_ns: int) -> int | None:
        """When there may be a batch next, after :meth:`take` at this time found none.

        ``None``: no request waits, and none is known to come.
        """
        ready, due = self._forming.ready_ns(), None
        if self._is_held_up:
            due = now_ns + HELD_UP_NS
        elif not self._over:
            due = self._requests.due_ns(self.admitted)
            missing = self._forming.missing() if ready is not None else None
            if missing:  # nobody has to look before the batch is full
                due = self._requests.due_ns(self.admitted, missing - 1) or due
        return min((one for one in (ready, due) if one is not None), default=None)

    @property
    def over(self) -> bool:
        """Whether no further request will be admitted."""
        return self._over

    def limit_to(self, requests: int) -> None:
        """There was no memory for a batch: from now on none has more requests than so many."""
        self._forming.limit_to(requests)
        self.limited_to = min(self.limited_to or requests, requests)

    def returned(self, count: int, finished_ns: int) -> int | None:
        """So many requests have been answered; when the next one is due that follows from that."""
        return self._requests.returned(count, finished_ns)
