"""The queue of requests: what it admits, and when the next batch is known."""

from __future__ import annotations

import numpy as np
import pytest

from inferload.callers.batching.forming import Forming
from inferload.callers.batching.queue import RequestQueue
from inferload.callers.batching.requests import Scheduled
from inferload.plan.arrivals.schedule import Schedule

DELAY_NS = 1000


def queue_of(requests: int, group_of: tuple[int, ...], most: int) -> RequestQueue:
    """A queue whose requests are due every 10 ns; input and group of each take turns."""
    due = Schedule(
        times_ns=np.arange(requests) * 10, period_ns=0, calls=requests, span_ns=requests * 10
    )
    queue = RequestQueue(
        Scheduled(due),
        Forming(group_of, [most] * (max(group_of) + 1), DELAY_NS),
        range(len(group_of)),
        lambda row, most: (most, True),
        lambda: requests,
    )
    queue.begin(0)
    return queue


@pytest.mark.parametrize("group_of", [(0,), (0, 1), (0, 1, 2)])
def test_of_a_long_backlog_no_more_is_looked_at_than_the_next_batch_needs(group_of):
    queue = queue_of(100_000, group_of, most=8)
    taken = []
    for batch in range(6):
        queue.free(0)
        found = queue.take(10_000_000)
        assert len(found.requests) == 8
        assert {group_of[one.input] for one in found.requests} == {batch % len(group_of)}
        taken += [one.row for one in found.requests]
        assert queue.admitted <= max(taken) + 8 * len(group_of)
    assert sorted(taken) == list(range(48))


def test_what_is_due_joins_until_the_batch_is_full():
    queue = queue_of(100, (0,), most=8)
    for now_ns, requests in ((30, 0), (1000, 8), (1010, 8)):
        queue.free(0)
        found = queue.take(now_ns)
        assert (0 if found is None else len(found.requests)) == requests
