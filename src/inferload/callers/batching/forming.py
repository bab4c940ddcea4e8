"""Which requests go into one batch, and when it is ready. Pure: no clock, no lock, no tensors."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


_AT_ONCE = 64


class Request(NamedTuple):
    """One request that is due: its row of the log, when it was due, and the number of its input."""

    row: int
    due_ns: int
    input: int


class Ready(NamedTuple):
    """The requests of a batch in the order in which they were due, and since when it was ready."""

    requests: list[Request]
    since_ns: int


class Forming:
    """The requests that are due and not taken.

    Only requests of one group join. A batch of a group is ready when ``most_of[group]`` requests
    of it are due, or ``max_delay_ns`` after the one that waits for longest was; of several that
    are ready the one whose first request was due first is taken, so that no group starves. As
    ``Forming`` in forming.h.
    """

    def __init__(self, group_of: Sequence[int], most_of: Sequence[int], max_delay_ns: int) -> None:
        self._group_of = group_of
        self._most_of = most_of
        self._max_delay_ns = max_delay_ns
        self._waiting: list[deque[Request]] = [deque() for _ in most_of]
        #: All requests in the order in which they were due, those that were taken among them.
        self._order: deque[Request] = deque()
        self._full: set[int] = set()

    def add(self, requests: Sequence[Request]) -> None:
        """Requests are due; they are added in the order in which they are."""
        self._order.extend(requests)
        if len(self._waiting) == 1:
            self._waiting[0].extend(requests)
            if len(self._waiting[0]) >= self._most_of[0]:
                self._full.add(0)
            return
        for request in requests:
            group = self._group_of[request.input]
            waiting = self._waiting[group]
            waiting.append(request)
            if len(waiting) >= self._most_of[group]:
                self._full.add(group)

    def room(self, now_ns: int) -> int:
        """How many requests may be added at once; none: the next batch is full and known.

        In a long backlog no request that is due could change it then (``is_settled`` in forming.h).
        """
        group = 0
        if len(self._waiting) > 1:
            oldest = self.oldest()
            if oldest is None:
                return 1
            if oldest.due_ns + self._max_delay_ns > now_ns:
                return _AT_ONCE
            group = self._group_of[oldest.input]
        return max(self._most_of[group] - len(self._waiting[group]), 0)

    def oldest(self) -> Request | None:
        """The request that has waited for longest."""
        order = self._order
        while order:
            waiting = self._waiting[self._group_of[order[0].input]]
            if waiting and waiting[0].row <= order[0].row:
                return order[0]
            order.popleft()
        return None

    def take(self, now_ns: int) -> Ready | None:
        """The batch that is ready, if there is one."""
        oldest = self.oldest()
        if oldest is None:
            return None
        group = self._group_of[oldest.input]
        if oldest.due_ns + self._max_delay_ns > now_ns:
            if not self._full:
                return None
            group = min(self._full, key=lambda one: self._waiting[one][0].row)
        waiting, most = self._waiting[group], self._most_of[group]
        taken = [waiting.popleft() for _ in range(min(most, len(waiting)))]
        if len(waiting) < most:
            self._full.discard(group)
        since_ns = taken[0].due_ns + self._max_delay_ns
        return Ready(taken, min(since_ns, taken[-1].due_ns) if len(taken) == most else since_ns)

    def limit_to(self, requests: int) -> None:
        """No batch has more requests than so many from now on."""
        self._most_of = [min(most, requests) for most in self._most_of]
        self._full = {
            group
            for group, waiting in enumerate(self._waiting)
            if len(waiting) >= self._most_of[group]
        }

    def ready_ns(self) -> int | None:
        """When the request that has waited for longest is taken, if no batch is full before."""
        oldest = self.oldest()
        return None if oldest is None else oldest.due_ns + self._max_delay_ns

    def missing(self) -> int | None:
        """How many requests are missing to a full batch, where all of them are of one group."""
        if len(self._waiting) > 1:
            return None
        return max(self._most_of[0] - len(self._waiting[0]), 0)
