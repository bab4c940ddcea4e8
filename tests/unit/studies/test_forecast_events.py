"""Requests through replicas, against the plainest simulation of the same."""

from __future__ import annotations

import heapq
import subprocess
import sys

import numpy as np
import pytest

from inferload.log.buckets import counts_of
from inferload.studies.forecast import events
from inferload.studies.forecast.state import (
    LEAST_NS,
    MOST_NS,
    Replica,
    Rules,
    nothing_counted,
    state_of,
)

REQUESTS = 3000


def replica(
    slots=1, *, pace=None, max_batch=1, delay_ns=0.0, work=None, speed=(1.0,), window=np.inf
):
    return Replica(
        rules=Rules(slots=slots, max_batch=max_batch, delay_ns=delay_ns, window_ns=window),
        pace=np.ones(slots + 1) if pace is None else np.asarray(pace, float),
        work_ns=np.arange(max_batch + 1) ** 0.0 if work is None else np.asarray(work, float),
        table=np.zeros((slots + 1, max_batch + 1), np.int64),
        shapes=np.ones((1, 1)),
        speed=np.asarray(speed, float),
    )


def through(own, due, size, replicas=1, balancing=events.RANDOM, one=None, other=None, pool=None):
    """What the events make of requests."""
    n = len(due)
    state = state_of(replicas, pool or n, own, 0)
    found = nothing_counted(1)
    zeros = np.zeros(n, np.int32)
    one = zeros if one is None else one
    other = zeros if other is None else other
    for at in range(0, n, 700):  # some at a time
        part = slice(at, at + 700)
        events.take(
            state, own, found, due[part], size[part], zeros[part], one[part], other[part],
            balancing, at,
        )  # fmt: skip
    events.rest(state, own, found)
    return found, state


def drawn(load, servers, seed=0, mean=1e6):
    rng = np.random.default_rng(seed)
    due = np.cumsum(rng.exponential(mean / (load * servers), REQUESTS))
    return due, rng.exponential(mean, REQUESTS), rng


def same(found, state, responses):
    assert found.counts[0].tolist() == counts_of(np.asarray(responses).astype(np.int64)).tolist()
    assert found.sums[0, 0] == pytest.approx(np.sum(responses), rel=1e-9)
    ends = state.seen[[LEAST_NS, MOST_NS]]
    assert ends == pytest.approx([np.min(responses), np.max(responses)])


@pytest.mark.parametrize("slots", [1, 3, 8])
def test_one_queue_with_several_callers(slots):
    due, size, _ = drawn(0.8, slots)
    free = [0.0] * slots
    wanted = []
    for t, work in zip(due, size, strict=True):
        end = max(heapq.heappop(free), t) + work
        heapq.heappush(free, end)
        wanted.append(end - t)
    found, state = through(replica(slots), due, size)
    same(found, state, wanted)
    assert state.seen[0] == pytest.approx(size.sum())


@pytest.mark.parametrize("slots", [1, 3])
def test_after_a_pause_of_its_caller_a_call_takes_longer(slots):
    """The caller that is free for longest takes the next call."""
    due, size, _ = drawn(0.6, slots)
    lengths, slower = np.array([0.2e6, 1e6, 3e6]), np.array([1.1, 1.5, 1.2])
    free = [0.0] * slots
    wanted, pauses = [], []
    for t, work in zip(due, size, strict=True):
        since = heapq.heappop(free)
        begins = max(since, t)
        pauses.append(begins - since)
        factor = np.interp(begins - since, [0, *lengths], [1, *slower])
        heapq.heappush(free, begins + work * factor)
        wanted.append(begins + work * factor - t)
    assert min(pauses) == 0
    assert max(pauses) > 3e6
    own = replica(slots)._replace(pauses_ns=lengths, slower=slower)
    found, state = through(own, due, size)
    same(found, state, wanted)


class Plain:
    """Replicas of one caller, and who is told to go where."""

    def __init__(self, replicas):
        self.ends = [[] for _ in range(replicas)]
        self.since = list(range(replicas))
        self.changes = replicas

    def until(self, t):
        over = sorted((e, r) for r, own in enumerate(self.ends) for e in own if e <= t)
        for _, r in over:
            self.ends[r].pop(0)
            self._changed(r)

    def _changed(self, r):
        self.since[r] = self.changes
        self.changes += 1

    def take(self, r, t, work):
        end = max(self.ends[r][-1] if self.ends[r] else 0.0, t) + work
        self.ends[r].append(end)
        self._changed(r)
        return end - t


@pytest.mark.parametrize("balancing", [*range(4)])
def test_every_balancer_sends_each_request_where_it_should(balancing):
    replicas = 5
    due, size, rng = drawn(0.85, replicas)
    one, other = rng.integers(replicas, size=(2, REQUESTS)).astype(np.int32)
    plain, wanted = Plain(replicas), []
    for number, (t, work) in enumerate(zip(due, size, strict=True)):
        plain.until(t)
        load = [len(own) for own in plain.ends]
        r = {
            events.RANDOM: one[number],
            events.ROUND_ROBIN: number % replicas,
            events.TWO_CHOICES: other[number]
            if load[other[number]] < load[one[number]]
            else one[number],
            events.LEAST_LOADED: min(range(replicas), key=lambda k: (load[k], plain.since[k])),
        }[balancing]
        wanted.append(plain.take(r, t, work))
    found, state = through(replica(1), due, size, replicas, balancing, one, other)
    same(found, state, wanted)


@pytest.mark.parametrize("balancing", [events.RANDOM, events.LEAST_LOADED])
def test_calls_that_slow_each_other_down(balancing):
    slots, pace = 4, [1.0, 1.0, 0.7, 0.5, 0.3]
    due, size, _ = drawn(0.5, 1)
    wanted, left, queue, now, k = {}, {}, [], 0.0, 0
    arrivals = [*zip(due, range(REQUESTS), strict=True)]
    while arrivals or left:
        soonest = min(left, key=left.get) if left else None
        ends = now + left[soonest] / pace[len(left)] if left else np.inf
        came = arrivals[0][0] if arrivals else np.inf
        until = min(ends, came)
        for each in left:
            left[each] -= (until - now) * pace[len(left)]
        now = until
        if ends <= came:
            del left[soonest]
            wanted[soonest] = now - due[soonest]
            if queue:
                k = queue.pop(0)
                left[k] = size[k]
        else:
            _, k = arrivals.pop(0)
            if len(left) < slots:
                left[k] = size[k]
            else:
                queue.append(k)
    found, state = through(replica(slots, pace=pace), due, size, 1, balancing)
    assert found.sums[0, 0] == pytest.approx(sum(wanted.values()), rel=1e-6)
    assert state.seen[MOST_NS] == pytest.approx(max(wanted.values()), rel=1e-6)


@pytest.mark.parametrize("balancing", [events.RANDOM, events.LEAST_LOADED])
def test_batches_wait_for_others_as_they_are_told(balancing):
    most, delay = 4, 2e6
    work = [0.0, 1e6, 1.4e6, 1.7e6, 2e6]
    due, _, _ = drawn(1.3, 1)
    wanted, place, free = [], 0, 0.0
    while place < REQUESTS:
        first = max(free, due[place])
        full = due[place + most - 1] if place + most <= REQUESTS else np.inf
        start = max(first, min(full, due[place] + delay))
        count = min(np.searchsorted(due, start, side="right") - place, most)
        free = start + work[count]
        wanted += (free - due[place : place + count]).tolist()
        place += count
    own = replica(1, max_batch=most, delay_ns=delay, work=work)
    found, state = through(own, due, np.ones(REQUESTS), 1, balancing)
    same(found, state, wanted)
    assert state.seen[3] == REQUESTS
    assert REQUESTS / state.seen[2] > 1.5


def test_a_machine_that_changes_its_speed():
    # 1 ms at full speed, then 1 ms at half: work of 4 ms takes 6 ms wherever it begins
    own = replica(1, speed=(1.0, 0.5), window=1e6)
    due = np.arange(20) * 1e9 + 12345.0
    found, state = through(own, due, np.full(20, 3e6))
    assert found.sums[0, 0] / 20 == pytest.approx(4e6)
    assert state.seen[[LEAST_NS, MOST_NS]].tolist() == pytest.approx([4e6, 4e6], rel=1e-6)


def test_requests_for_which_there_is_no_room_are_counted():
    due, size, _ = drawn(3.0, 1)
    found, state = through(replica(1), due, size, pool=50)
    assert state.seen[1] > 1000
    assert found.counts.sum() + state.seen[1] == REQUESTS


def test_windows_of_time_are_counted_apart():
    due, size, _ = drawn(0.5, 1)
    own = replica(1)
    own = own._replace(rules=own.rules._replace(width_ns=due[-1] / 10))
    state, found = state_of(1, 100, own, 0), nothing_counted(10)
    zeros = np.zeros(REQUESTS, np.int32)
    events.take(state, own, found, due, size, zeros, zeros, zeros, 0, 0)
    events.rest(state, own, found)
    each = found.counts.sum(axis=1)
    assert each.sum() == REQUESTS
    assert each.min() > REQUESTS / 10 / 2


PLAIN = """
import sys
from pathlib import Path
sys.modules["numba"] = None
sys.path.insert(0, str(Path(sys.argv[1]).parent))
import test_forecast_events as tests
from inferload.studies.forecast.compiled import IS_COMPILED
assert not IS_COMPILED
for balancing in range(4):
    tests.test_every_balancer_sends_each_request_where_it_should(balancing)
tests.test_batches_wait_for_others_as_they_are_told(0)
tests.test_calls_that_slow_each_other_down(0)
print("the same")
"""


def test_without_numba_it_is_the_same():
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, __file__], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "the same\n"), done.stderr
