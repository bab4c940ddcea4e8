"""Requests through replicas, event by event: compiled where numba is installed, else as it stands.

A replica calls up to ``slots`` batches at once and has one queue, first come first served. How fast
a call advances depends on how many are under way beside it, as measured, so a replica has a time of
its own: it advances by ``pace[k]`` a nanosecond while ``k`` calls are under way, and a call of work
w that starts at v ends at v + w. A replica is brought up to a time only when somebody looks at it;
so no heap of all events is needed, but for the balancer that knows every replica.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inferload.log.buckets import BUCKETS
from inferload.studies.forecast.compiled import compiled, compiled_within
from inferload.studies.forecast.least_loaded import least_loaded, moved, told
from inferload.studies.forecast.state import (
    BATCHED,
    BATCHES,
    FREE,
    LEAST_NS,
    MOST_NS,
    NOBODY,
    SERVICE_NS,
    TURNED_AWAY,
)

if TYPE_CHECKING:
    from inferload.log.arrays import Floats, Int32s
    from inferload.studies.forecast.state import Counted, Replica, State

RANDOM, ROUND_ROBIN, TWO_CHOICES, LEAST_LOADED = range(4)
_HALF = 1024  # as in log.buckets


@compiled
def bucket_of(ns: float) -> int:
    """The bucket of a duration, as ``log.buckets.bucket_of`` has it."""
    value = int(ns)
    power = 0
    while value >= 2 * _HALF:
        value >>= 1
        power += 1
    return min(power * _HALF + value, BUCKETS - 1)


@compiled_within
def _ready_ns(s: State, p: Replica, r: int) -> float:
    """When a replica may begin a call of what waits; never, if nothing does or all are busy."""
    own = s.replicas[r]
    if own.waiting == 0 or own.busy == p.rules.slots:
        return np.inf
    ready_ns = own.since_ns
    if own.waiting < p.rules.max_batch:
        ready_ns = max(s.requests[own.head].due_ns + p.rules.delay_ns, ready_ns)
    return float(ready_ns)


@compiled_within
def _soonest(s: State, base: int, count: int) -> int:
    """Of so many calls the one that ends first."""
    found = base
    for one in range(base + 1, base + count):
        if s.calls[one].ends < s.calls[found].ends:
            found = one
    return found


@compiled_within
def advance(s: State, p: Replica, c: Counted, r: int, until_ns: float) -> None:
    """Bring replica ``r`` up to a time: calls end, and those that are ready begin."""
    own = s.replicas[r]
    while True:
        now, k = own.since_ns, own.busy
        ready = _ready_ns(s, p, r)
        if ready <= now:
            _begin(s, p, r)
            continue
        if k == 0 and (own.waiting == 0 or ready > until_ns):
            own.since_ns = until_ns
            return
        if own.edge_ns <= now:  # it stood still, perhaps for long
            passed = int((now - own.edge_ns) / p.rules.window_ns) + 1
            own.edge_ns += passed * p.rules.window_ns
            own.window = (own.window + passed) % len(p.speed)
        limit = min(until_ns, ready)
        if k > 0:
            limit = min(limit, own.edge_ns)
            fast = p.pace[k] * p.speed[own.window]
            soonest = _soonest(s, r * p.rules.slots, k)
            when = now + (s.calls[soonest].ends - own.done) / fast
            if when <= limit:
                own.done = s.calls[soonest].ends
                own.since_ns = when
                _end(s, p, c, r, soonest, when)
                continue
            own.done += (limit - now) * fast
        own.since_ns = limit
        if limit >= until_ns and ready > until_ns:
            return


@compiled_within
def _slower(p: Replica, pause_ns: float) -> float:
    """How many times as long a call takes after a pause: a straight line between those known."""
    last = len(p.pauses_ns) - 1
    if pause_ns <= 0:
        return 1.0
    if pause_ns >= p.pauses_ns[last]:
        return float(p.slower[last])
    before_ns, before = 0.0, 1.0
    for one in range(last + 1):
        at_ns, slower = p.pauses_ns[one], p.slower[one]
        if pause_ns < at_ns:
            share = (pause_ns - before_ns) / (at_ns - before_ns)
            return float(before + share * (slower - before))
        before_ns, before = at_ns, slower
    return float(before)


@compiled_within
def _begin(s: State, p: Replica, r: int) -> None:
    """Begin a call of what waits, as many requests as go into it."""
    own = s.replicas[r]
    count = min(own.waiting, p.rules.max_batch)
    own.busy += 1
    call = s.calls[r * p.rules.slots + own.busy - 1]
    one = own.head
    call.first = one
    shape = p.shapes[p.table[own.busy, count], s.requests[one].drawn]
    size = s.requests[one].factor
    for _ in range(count - 1):
        one = s.requests[one].after
        size += s.requests[one].factor
    work = p.work_ns[count] * shape * size / count
    if len(p.pauses_ns) > 0:
        work *= _slower(p, own.since_ns - s.freed[r * p.rules.slots + own.oldest])
        own.oldest = (own.oldest + 1) % p.rules.slots
    call.ends = own.done + work
    call.began_ns = own.since_ns
    own.head = s.requests[one].after
    s.requests[one].after = NOBODY
    own.waiting -= count
    s.seen[BATCHES] += 1
    s.seen[BATCHED] += count


@compiled_within
def _end(s: State, p: Replica, c: Counted, r: int, place: int, when: float) -> None:
    """Count the requests of a call, and forget them."""
    own, call = s.replicas[r], s.calls[place]
    window = min(int(when / p.rules.width_ns), len(c.sums) - 1)
    s.seen[SERVICE_NS] += when - call.began_ns
    one = call.first
    while one != NOBODY:
        mine = s.requests[one]
        response = when - mine.due_ns
        c.counts[window, bucket_of(response)] += 1
        c.sums[window, 0] += response
        c.sums[window, 1] += call.began_ns - mine.due_ns
        s.seen[LEAST_NS] = min(s.seen[LEAST_NS], response)
        s.seen[MOST_NS] = max(s.seen[MOST_NS], response)
        following = mine.after
        mine.after = s.first[FREE]
        s.first[FREE] = one
        own.inside -= 1
        one = following
    if len(p.pauses_ns) > 0:  # behind those that are free, in place of one that is not
        free = p.rules.slots - own.busy
        s.freed[r * p.rules.slots + (own.oldest + free) % p.rules.slots] = when
    last = s.calls[r * p.rules.slots + own.busy - 1]
    call.ends, call.began_ns, call.first = last.ends, last.began_ns, last.first
    own.busy -= 1


@compiled_within
def _queue(s: State, r: int, due_ns: float, size: float, drawn: int) -> bool:
    """Put a request behind the others; whether there was room for it."""
    one = s.first[FREE]
    if one == NOBODY:
        s.seen[TURNED_AWAY] += 1
        return False
    own, mine = s.replicas[r], s.requests[one]
    s.first[FREE] = mine.after
    mine.due_ns, mine.factor, mine.drawn, mine.after = due_ns, size, drawn, NOBODY
    if own.waiting == 0:
        own.head = one
    else:
        s.requests[own.tail].after = one
    own.tail = one
    own.waiting += 1
    own.inside += 1
    return True


@compiled_within
def _advance_all(s: State, p: Replica, c: Counted, now: float) -> None:
    """All that happens until then, in the order of time."""
    while s.replicas[s.heap[0]].event_ns <= now:
        r = s.heap[0]
        before = s.replicas[r].inside
        advance(s, p, c, r, s.replicas[r].event_ns)
        if s.replicas[r].inside != before:
            moved(s, r, before, s.replicas[r].inside)
        told(s, p, r)


@compiled
def take(
    s: State,
    p: Replica,
    c: Counted,
    due_ns: Floats,
    size: Floats,
    drawn: Int32s,
    one: Int32s,
    other: Int32s,
    balancing: int,
    from_number: int,
) -> None:
    """Take some requests in the order in which they are due; ``one`` and ``other`` are choices."""
    replicas = s.replicas
    for number in range(len(due_ns)):
        now = due_ns[number]
        if balancing == ROUND_ROBIN:
            r = (from_number + number) % len(replicas)
        elif balancing == LEAST_LOADED:
            _advance_all(s, p, c, now)
            r = least_loaded(s)
        else:
            r = int(one[number])
        advance(s, p, c, r, now)
        if balancing == TWO_CHOICES:
            another = int(other[number])
            advance(s, p, c, another, now)
            if replicas[another].inside < replicas[r].inside:
                r = another
        if not _queue(s, r, now, size[number], drawn[number]):
            continue
        if balancing == LEAST_LOADED:
            moved(s, r, replicas[r].inside - 1, replicas[r].inside)
        advance(s, p, c, r, now)
        if balancing == LEAST_LOADED:
            told(s, p, r)


@compiled
def rest(s: State, p: Replica, c: Counted) -> None:
    """Bring all to the end of what they have."""
    for r in range(len(s.replicas)):
        advance(s, p, c, r, np.inf)
