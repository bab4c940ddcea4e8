"""When requests are due: by a schedule, or when clients have thought about the last answer."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from inferload.plan.arrivals.clients import Clients
    from inferload.plan.arrivals.schedule import Schedule


class Requests(Protocol):
    """The requests of one queue, numbered from 0 in the order in which they are due."""

    def begin(self, start_ns: int) -> None:
        """The start line was opened at this time."""

    def due_ns(self, number: int, ahead: int = 0) -> int | None:
        """When the next request that was not taken is due, which has this number.

        ``ahead``: so many requests after it. ``None``: that is not known, or there is none.
        """

    def due_by(self, now_ns: int, number: int, most: int) -> list[int]:
        """When some of the next requests are due, so many at most, of those that are by now.

        The first of them is ``number``; none only if none is due.
        """

    def taken(self, count: int) -> None:
        """So many of them were taken."""

    def returned(self, count: int, finished_ns: int) -> int | None:
        """So many requests have been answered; when the next one is due that follows from that."""


class Scheduled:
    """An open loop: what is due is known beforehand."""

    def __init__(self, schedule: Schedule) -> None:
        self._times = schedule.times_ns.data
        self._size = len(schedule.times_ns)
        self._period_ns, self._calls = schedule.period_ns, schedule.calls
        self._start_ns = 0

    def begin(self, start_ns: int) -> None:
        """The start line was opened at this time."""
        self._start_ns = start_ns

    def due_ns(self, number: int, ahead: int = 0) -> int | None:
        """When a request is due."""
        number += ahead
        if number >= self._calls:
            return None
        turn, place = divmod(number, self._size)
        due: int = self._start_ns + self._times[place] + turn * self._period_ns
        return due

    def due_by(self, now_ns: int, number: int, most: int) -> list[int]:
        """When the next of them are due."""
        turn, place = divmod(number, self._size)
        most = min(most, self._calls - number, self._size - place)
        offset = self._start_ns + turn * self._period_ns
        times: list[int] = self._times[place : place + most].tolist()
        if times and times[-1] > now_ns - offset:
            times = times[: bisect_right(times, now_ns - offset)]
        return [time + offset for time in times]

    def taken(self, count: int) -> None:
        """Nothing follows from that."""

    def returned(self, count: int, finished_ns: int) -> None:
        """Nothing follows from that."""


class OfClients:
    """A closed loop: each client has one request in flight, and thinks before the next one."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._thinks = clients.think_ns.data
        self._due: list[int] = []
        self._returned = 0

    def begin(self, start_ns: int) -> None:
        """The start line was opened at this time."""
        self._due = (self._clients.first_ns + start_ns).tolist()  # ascending, so it is a heap

    def due_ns(self, number: int, ahead: int = 0) -> int | None:
        """When the next request is due; of those after it nothing is known."""
        del number
        return self._due[0] if self._due and not ahead else None

    def due_by(self, now_ns: int, number: int, most: int) -> list[int]:
        """When the next one is due."""
        del number, most
        return self._due[:1] if self._due and self._due[0] <= now_ns else []

    def taken(self, count: int) -> None:
        """The clients have their requests in flight."""
        for _ in range(count):
            heapq.heappop(self._due)

    def returned(self, count: int, finished_ns: int) -> int:
        """So many clients think; when the first of them has its next request."""
        first = 2**63 - 1
        for _ in range(count):
            due = finished_ns + self._thinks[self._returned % len(self._thinks)]
            self._returned += 1
            heapq.heappush(self._due, due)
            first = min(first, due)
        return first
