"""Whether calls of an open loop are due faster than they are served, so that their queue grows.

Then response times say how long the run lasted and nothing of the target, and none is quoted.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from inferload.records.figures import Overload
from inferload.stats.steadiness.steady_state import kendall_p
from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from inferload.log.arrays import Floats, Int64s
    from inferload.log.calls import CallLog

# Of more calls so many, evenly picked, say the same.
ENOUGH_CALLS = 500_000
# Of fewer calls nobody can say that they pile up.
FEWEST_CALLS = 100
# The time in which calls are due is cut into so many stretches.
STRETCHES = 10
# A queue that grows holds more calls than chance leaves behind, by so many standard deviations; and
# by so many where it is looked at again and again.
DEVIATIONS, DEVIATIONS_OF_A_LOOK = 2.0, 3.0


def overload_of(
    log: CallLog, from_s: float = 0.0, deviations: float = DEVIATIONS
) -> Overload | None:
    """Which queues of an open loop grow through the run; ``None`` if none does.

    Each queue, one for each process and for each model with callers of its own, is judged by the
    calls that finished after ``from_s``. The number of calls that were due and had not been started
    is taken in the mean over each of ten stretches of time. It grows if it rises from one to the
    next (Kendall's test, one of a hundred equals), and the last holds at least twice what the first
    half did in the mean and more than chance would leave behind: the queue that n calls leave is a
    sum of the times between arrivals and of services, so that where calls are served just as fast
    as they come its standard deviation is sqrt(n (a^2 + s^2)), with the coefficients of variation a
    of the times between arrivals and s of the services (heavy traffic; Kleinrock, Queueing Systems
    II, 2.1).
    So many ``deviations`` of it are asked for, and more of many queues: two are found by chance in
    1 or 2 of a hundred runs at 95 to 98 % load, and in none in a thousand below 90 %
    (tests/statistical). An overload of a fraction x takes about 4 (a^2 + s^2) / x^2 calls to be
    seen: 10 % within 400 to 1,000 calls. What waited at ``from_s`` already is not counted. Calls
    that come in bursts at fixed times are taken for chance, and take many more of them.
    """
    if not log.open_loop:
        return None
    queues = log.queues()
    lanes, own = max(len(log.callers_by_lane), 1), sum(log.callers_by_lane)
    deviations = math.sqrt(deviations**2 + 2 * math.log(max(len(queues), 1)))
    growing, worst = [], (1.0, 0.0, 0.0)
    for rows, _ in queues:
        own_log = log if len(queues) == 1 else log.rows(rows)
        found = _growth(own_log, from_s, deviations)
        if found is None:
            continue
        caller = int(log.caller[rows[0]])
        process, number = divmod(caller, own) if own else (0, caller)
        lane = int(np.searchsorted(np.cumsum(log.callers_by_lane), number, side="right"))
        growing.append((process, lane if lanes > 1 else 0))
        asked, served = found
        worst = max(worst, (asked / max(served, 1e-9), asked, served))
    if not growing:
        return None
    return Overload(
        asked_per_s=worst[1],
        served_per_s=worst[2],
        queues=tuple(growing),
        queues_in_all=len(queues),
    )


def backlog_grows(log: CallLog, from_s: float = 0.0, deviations: float = DEVIATIONS) -> bool:
    """Whether calls of an open loop pile up: more are due than are served, in the long run."""
    return overload_of(log, from_s, deviations) is not None


def _growth(log: CallLog, from_s: float, deviations: float) -> tuple[float, float] | None:
    """How many calls a second were due in one queue and how many were served, if it grows."""
    one_in = 1 if log.tally is None else log.tally.sampled_one_in
    every = len(log) // ENOUGH_CALLS + 1  # one call in so many, in the order in which they were due
    if every > 1:
        log = log.rows(slice(None, None, every))
    from_ns, due = round(from_s * NS_PER_S), np.sort(log.scheduled_ns)
    calls = len(due) - int(np.searchsorted(due, from_ns))
    if calls < FEWEST_CALLS or due[-1] <= from_ns:
        return None
    started = np.sort(log.started_ns)
    # in the mean over all of the time: looks at a queue in step with its batches see it grow
    edges = np.linspace(from_ns, due[-1], STRETCHES + 1)
    waited = np.diff(
        _area(due - from_ns, edges - from_ns) - _area(started - from_ns, edges - from_ns)
    )
    means = waited / np.diff(edges)
    means -= len(due) - calls - int(np.searchsorted(started, from_ns, "right"))
    # of a sample, one in k of a renewal process at random, the times between calls show 1/k of how
    # it differs from a Poisson process; the sum of k times varies by a k-th of one
    between = max(1 + one_in * (every * _variation(np.diff(due[-calls:])) - 1), 0.0)
    one_in *= every
    means *= one_in
    chance = math.sqrt(calls * one_in * (between + _variation(log.service_ns)))
    rises = means[-1] > means[0] and kendall_p(means) < 0.01
    least = max(2 * means[: STRETCHES // 2].mean(), deviations * chance, 1.0)
    if not (rises and means[-1] > least):
        return None
    span_s = float(due[-1] - from_ns) / NS_PER_S
    served = int(np.count_nonzero((log.finished_ns > from_ns) & (log.finished_ns <= due[-1])))
    return calls * one_in / span_s, served * one_in / span_s


def _area(moments: Int64s, until: Floats) -> Floats:
    """How many of the sorted moments had passed, summed over the time until each of these."""
    passed = np.searchsorted(moments, until, side="right")
    sums = np.concatenate([[0.0], np.cumsum(moments, dtype=np.float64)])
    found: Floats = passed * until - sums[passed]
    return found


def _variation(values: Int64s) -> float:
    """The square of the coefficient of variation."""
    mean = float(values.mean())
    return float(values.var()) / mean**2 if mean > 0 else 0.0
