"""What replicas are like, and where they are: arrays that compiled functions read and write.

They are few, and of records, because functions are handed each of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from inferload.log.buckets import BUCKETS
from inferload.studies.forecast.compiled import IS_COMPILED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inferload.log.arrays import Floats, Int64s

NOBODY = -1
#: Of each replica: ``done`` work since the start, known up to ``since_ns``; ``busy`` calls, and
#: ``waiting`` requests from ``head`` to ``tail``, of those ``inside`` it; its ``window`` ends at
#: ``edge_ns``. Its next event, its ``place`` in the heap, its neighbours in a ring of equals, and
#: which of its ``freed`` times is the ``oldest``.
REPLICA = np.dtype(
    [
        ("done", "f8"), ("since_ns", "f8"), ("edge_ns", "f8"), ("event_ns", "f8"), ("head", "i8"),
        ("tail", "i8"), ("busy", "i8"), ("waiting", "i8"), ("inside", "i8"), ("window", "i8"),
        ("place", "i8"), ("right", "i8"), ("left", "i8"), ("oldest", "i8"),
    ]
)  # fmt: skip
#: Of each call, in the first ``busy`` places of its replica: it ends when so much work is done.
CALL = np.dtype([("ends", "f8"), ("began_ns", "f8"), ("first", "i8")])
#: Of each request; ``after`` is the next one in its queue or batch, or the next free place.
REQUEST = np.dtype([("due_ns", "f8"), ("factor", "f8"), ("after", "i8"), ("drawn", "i8")])
#: Of all: time of service, requests turned away, batches, requests in them; response times' ends.
SERVICE_NS, TURNED_AWAY, BATCHES, BATCHED, LEAST_NS, MOST_NS = range(6)
#: Places in ``State.first``: a request that is free, and the least that a replica has inside.
FREE, LOWEST = range(2)


class Rules(NamedTuple):
    """What each replica goes by.

    It has ``slots`` calls at once, of up to ``max_batch`` requests, which are held back for
    ``delay_ns``; its speed changes every ``window_ns``, and responses are counted in windows of
    ``width_ns``.
    """

    slots: int
    max_batch: int
    delay_ns: float
    window_ns: float
    width_ns: float = np.inf


class Replica(NamedTuple):
    """What each replica is like.

    ``pace``, float64 of shape ``(slots + 1,)``: how much work is done a nanosecond with so many
    calls under way. ``work_ns``, ``(max_batch + 1,)``: the mean work of a batch of so many.
    ``shapes``, ``(tables, values)``: values of equal likelihood that work is multiplied with;
    ``table``, int64 ``(slots + 1, max_batch + 1)``, which of them. ``speed``: how fast the machine
    is in one window after another, over and over. ``pauses_ns``, ascending, and ``slower``, of the
    same shape: how many times as long a call takes after a pause of its caller; empty: the same.
    """

    rules: Rules
    pace: Floats
    work_ns: Floats
    table: Int64s
    shapes: Floats
    speed: Floats
    pauses_ns: Floats = np.empty(0)
    slower: Floats = np.empty(0)


class State(NamedTuple):
    """Where all replicas are, and the requests that are in them.

    ``heap``: replicas by their next event. Replicas with equally many inside are a ring from
    ``rings[inside]`` on. ``freed``: when callers were freed, a ring of ``slots`` for each replica;
    the one that is free for longest takes the next call.
    """

    replicas: NDArray[Any]
    calls: NDArray[Any]
    requests: NDArray[Any]
    first: Int64s
    heap: Int64s
    rings: Int64s
    seen: Floats
    freed: Floats


class Counted(NamedTuple):
    """Response times by window and bucket, and of each window their sum and that of the queues."""

    counts: Int64s
    sums: Floats


def state_of(replicas: int, pool: int, replica: Replica, seed: int) -> State:
    """Replicas that are empty, each at another time of the machine's speed; room for requests."""
    rng = np.random.default_rng([seed, 1])
    windows = len(replica.speed)
    into = rng.random(replicas) * windows
    own = records(replicas, REPLICA)
    own["window"] = into.astype(np.int64) % windows
    own["edge_ns"] = (1 - into % 1) * replica.rules.window_ns if windows > 1 else np.inf
    own["event_ns"] = np.inf
    number = np.arange(replicas)
    own["place"] = number
    own["right"], own["left"] = (number + 1) % replicas, (number - 1) % replicas
    requests = records(pool, REQUEST)
    requests["after"] = np.append(np.arange(1, pool), NOBODY)
    rings = np.full(pool + 2, NOBODY)
    rings[0] = 0
    return State(
        replicas=own,
        calls=records(replicas * replica.rules.slots, CALL),
        requests=requests,
        first=np.zeros(2, np.int64),
        heap=number,
        rings=rings,
        seen=np.array([0.0, 0.0, 0.0, 0.0, np.inf, 0.0]),
        freed=np.zeros(replicas * replica.rules.slots if len(replica.pauses_ns) else 0),
    )


def nothing_counted(windows: int) -> Counted:
    """No response time yet."""
    return Counted(counts=np.zeros((windows, BUCKETS), np.int64), sums=np.zeros((windows, 2)))


def records(count: int, kind: np.dtype[Any]) -> NDArray[Any]:
    """Records whose fields are attributes, compiled or not."""
    found = np.zeros(count, kind)
    return found if IS_COMPILED else found.view(np.recarray)
