"""Pure data: whether a run kept the limits that it was given."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitVerdict:
    """What the calls of a run say of one limit.

    ``limit`` as it is written (``"p99<=20ms"``). ``verdict`` is ``"kept"`` or ``"broken"``, each at
    a risk of 1 %, or ``"open"``: the calls are too few to say. ``value`` is the figure with its
    95 % interval, in milliseconds, as a fraction of calls, or in calls per second; ``None`` where
    it lies among calls that did not finish, or the queue grew. ``calls_missing``: how many more
    calls like these would say that it is kept. ``broken_at_s``: when it was found broken, which
    ended the run. ``stage``: of a load in stages, the number of the one that says so, from 1.
    """

    limit: str
    verdict: str
    value: float | None
    low: float | None = None
    high: float | None = None
    calls_missing: int | None = None
    broken_at_s: float | None = None
    stage: int | None = None
