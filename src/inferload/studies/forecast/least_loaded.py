"""The balancer that knows the load of every replica: who has least, and where something is next.

Replicas of equal load are a ring, so that the one that has had so few for longest is found at once;
their next events are a heap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inferload.studies.forecast.compiled import compiled
from inferload.studies.forecast.state import LOWEST, NOBODY

if TYPE_CHECKING:
    from inferload.studies.forecast.state import Replica, State


@compiled
def least_loaded(s: State) -> int:
    """Of the replicas with the fewest requests the one that has had so few for longest."""
    while s.rings[s.first[LOWEST]] == NOBODY:
        s.first[LOWEST] += 1
    return int(s.rings[s.first[LOWEST]])


@compiled
def moved(s: State, r: int, before: int, load: int) -> None:
    """A replica has another load: it leaves one ring, and joins another at its end."""
    own = s.replicas[r]
    if own.right == r:
        s.rings[before] = NOBODY
    else:
        if s.rings[before] == r:
            s.rings[before] = own.right
        s.replicas[own.left].right = own.right
        s.replicas[own.right].left = own.left
    oldest = s.rings[load]
    if oldest == NOBODY:
        s.rings[load] = r
        own.right = r
        own.left = r
    else:
        last = s.replicas[oldest].left
        s.replicas[last].right = r
        s.replicas[oldest].left = r
        own.left = last
        own.right = oldest
    s.first[LOWEST] = min(s.first[LOWEST], load)


@compiled
def _next_event_ns(s: State, p: Replica, r: int) -> float:
    """When something happens next to a replica, if nothing comes."""
    own = s.replicas[r]
    found = np.inf
    if own.busy > 0:
        soonest = s.calls[r * p.rules.slots].ends
        for one in range(r * p.rules.slots + 1, r * p.rules.slots + own.busy):
            soonest = min(soonest, s.calls[one].ends)
        found = own.since_ns + (soonest - own.done) / (p.pace[own.busy] * p.speed[own.window])
        found = min(found, own.edge_ns)
    if own.waiting > 0 and own.busy < p.rules.slots:
        found = min(found, s.requests[own.head].due_ns + p.rules.delay_ns)
    return float(max(found, own.since_ns))


@compiled
def told(s: State, p: Replica, r: int) -> None:
    """Put a replica where its next event belongs in the heap."""
    own = s.replicas[r]
    when = _next_event_ns(s, p, r)
    own.event_ns = when
    place = own.place
    while place > 0:
        above = (place - 1) // 2
        if s.replicas[s.heap[above]].event_ns <= when:
            break
        s.heap[place] = s.heap[above]
        s.replicas[s.heap[place]].place = place
        place = above
    size = len(s.heap)
    while True:
        below = 2 * place + 1
        if below >= size:
            break
        beside = below + 1
        soonest = s.replicas[s.heap[below]].event_ns
        if beside < size and s.replicas[s.heap[beside]].event_ns < soonest:
            below = beside
        if s.replicas[s.heap[below]].event_ns >= when:
            break
        s.heap[place] = s.heap[below]
        s.replicas[s.heap[place]].place = place
        place = below
    s.heap[place] = r
    own.place = place
