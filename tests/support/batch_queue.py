"""What dynamic batching is by its definition, written apart from the code that does it.

The whole schedule is known, so each batch follows from those before it: an instance that is free
takes, at the first moment at which some group has a batch that is ready, the group whose oldest
request is the oldest of all that are ready.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Served(NamedTuple):
    """One batch: its requests, when it began and ended, when it was ready, when one was free."""

    members: tuple[int, ...]
    began: int
    ended: int
    ready: int
    free: int


def served(
    due: Sequence[int],
    group_of: Sequence[int],
    *,
    instances: int,
    most: int,
    delay: int,
    service: Callable[[int, int], int],
    start: int = 0,
) -> list[Served]:
    """All batches of requests due at these times; ``service(number, size)``: how long one takes."""
    left: dict[int, list[int]] = {}
    for request, group in enumerate(group_of):
        left.setdefault(group, []).append(request)
    free = [start] * instances
    found: list[Served] = []
    while any(left.values()):
        since = heapq.heappop(free)
        ready = {}
        for group, waiting in left.items():
            if waiting:
                ready[group] = due[waiting[0]] + delay
                if len(waiting) >= most:
                    ready[group] = min(ready[group], due[waiting[most - 1]])
        began = max(since, min(ready.values()))
        group = min((left[one][0], one) for one, time in ready.items() if time <= began)[1]
        members = tuple(one for one in left[group][:most] if due[one] <= began)
        left[group] = left[group][len(members) :]
        ended = began + service(len(found), len(members))
        found.append(Served(members, began, ended, ready[group], since))
        heapq.heappush(free, ended)
    return found
