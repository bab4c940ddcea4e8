"""One fleet at one rate: requests as they are due, through replicas, to figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inferload.log.buckets import WindowCounts
from inferload.log.calls import CallTally
from inferload.stats.durations import CountedDurations
from inferload.stats.intervals import BATCHES
from inferload.stats.summary import distribution_ms
from inferload.studies.forecast import events
from inferload.studies.forecast.state import LEAST_NS, MOST_NS, nothing_counted, state_of
from inferload.units import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inferload.log.arrays import Floats, Int32s, Int64s
    from inferload.plan.arrivals.schedule import Schedule
    from inferload.records.distribution import Distribution
    from inferload.studies.forecast.state import Counted, Replica, State

BALANCING = {
    "random": events.RANDOM,
    "round-robin": events.ROUND_ROBIN,
    "two-choices": events.TWO_CHOICES,
    "least-loaded": events.LEAST_LOADED,
}
#: Of the time in which requests are due the first part is not counted: replicas begin empty.
_WARM_WINDOWS = 10
_CHUNK = 1 << 19
# Requests that wait, beside one for each call that can be under way.
_ROOM = 1 << 20
_NAME = "response_ns"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What requests ask for: factors of equal likelihood, or in the order of requests."""

    factors: Floats
    in_order: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """What came of it.

    ``queue_ms``: the mean. ``busy_fraction``: of the calls that could be under way those that were.
    """

    response_ms: Distribution
    queue_ms: float
    busy_fraction: float
    mean_batch: float
    turned_away: int


def simulated(
    schedule: Schedule, replicas: int, replica: Replica, work: Work, balancing: str, seed: int
) -> Simulated:
    """Figures of all requests of a schedule, but for those while replicas fill."""
    windows = BATCHES + _WARM_WINDOWS
    counted, state = _through(schedule, replicas, replica, work, balancing, seed, windows)
    response = distribution_ms(
        CountedDurations(_tally(counted, state, schedule.span_ns), _NAME, _WARM_WINDOWS)
    )
    if response is None:
        raise ValueError("no request came to its end")
    done_ns, turned_away, batches, requests = state.seen[:4]
    return Simulated(
        response_ms=response,
        queue_ms=float(counted.sums[_WARM_WINDOWS:, 1].sum()) / response.count / NS_PER_MS,
        busy_fraction=float(done_ns / (replicas * replica.rules.slots * schedule.span_ns)),
        mean_batch=float(requests / max(batches, 1.0)),
        turned_away=int(turned_away),
    )


def responses(schedule: Schedule, replica: Replica, work: Work, seed: int) -> Int64s:
    """Counts of the response times of all requests through one replica, by bucket."""
    counted, _ = _through(schedule, 1, replica, work, "random", seed, 1)
    found: Int64s = counted.counts[0]
    return found


def _through(
    schedule: Schedule,
    replicas: int,
    replica: Replica,
    work: Work,
    balancing: str,
    seed: int,
    windows: int,
) -> tuple[Counted, State]:
    """Take all requests through so many replicas, from empty to empty."""
    rng = np.random.default_rng([seed, 0])
    pool = min(schedule.calls, _ROOM) + 2 * replicas * replica.rules.slots * replica.rules.max_batch
    state = state_of(replicas, pool, replica, seed)
    width_ns = max(schedule.span_ns, 1) / windows
    replica = replica._replace(rules=replica.rules._replace(width_ns=width_ns))
    counted = nothing_counted(windows)
    for number, due in _chunks(schedule):
        size = len(due)
        one = rng.integers(replicas, size=size, dtype=np.int32)
        events.take(
            state,
            replica,
            counted,
            due,
            _sizes(work, number, size, rng),
            rng.integers(replica.shapes.shape[1], size=size, dtype=np.int32),
            one,
            _another(one, replicas, rng),
            BALANCING[balancing],
            number,
        )
    events.rest(state, replica, counted)
    return counted, state


def _chunks(schedule: Schedule) -> Iterator[tuple[int, Floats]]:
    """All times at which requests are due, in nanoseconds, some at a time."""
    turn_size = len(schedule.times_ns)
    number = 0
    while number < schedule.calls:
        turn, place = divmod(number, turn_size)
        size = min(_CHUNK, turn_size - place, schedule.calls - number)
        times = schedule.times_ns[place : place + size] + turn * schedule.period_ns
        yield number, times.astype(np.float64)
        number += size


def _sizes(work: Work, number: int, size: int, rng: np.random.Generator) -> Floats:
    if work.in_order:
        return work.factors[(number + np.arange(size)) % len(work.factors)]
    if len(work.factors) == 1:
        return np.full(size, work.factors[0])
    return work.factors[rng.integers(len(work.factors), size=size, dtype=np.int32)]


def _another(one: Int32s, replicas: int, rng: np.random.Generator) -> Int32s:
    """For each choice another replica, if there is one."""
    if replicas == 1:
        return one
    beside = rng.integers(1, replicas, size=len(one), dtype=np.int32)
    found: Int32s = (one + beside) % replicas
    return found.astype(np.int32)


def _tally(counted: Counted, state: State, span_ns: int) -> CallTally:
    windows = len(counted.sums)
    return CallTally(
        width_ns=max(span_ns // windows, 1),
        counts={_NAME: WindowCounts.of(counted.counts)},
        sums={_NAME: counted.sums[:, 0]},
        lows={_NAME: int(state.seen[LEAST_NS])},
        highs={_NAME: int(state.seen[MOST_NS])},
        returned_by_input=counted.counts.sum(axis=1, keepdims=True),
        failed=np.zeros(windows, np.int64),
        failed_ns=np.zeros(windows),
        last_finished_ns=span_ns,
    )
