"""A load whose rate changes: its stages in words, and when its calls are due."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from inferload.errors import PlanError
from inferload.plan.arrivals.schedule import Schedule
from inferload.plan.numbers import number_or_none
from inferload.records.stages import Stage
from inferload.units import NS_PER_S, duration_s

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.log.arrays import Floats

#: Arrivals that a changing rate can have.
STAGED_ARRIVALS = ("constant", "poisson")
# The times of all calls are drawn beforehand: 80 MB, and some times that while they are drawn.
MOST_CALLS = 10_000_000
MOST_STAGES = 1000
# Sums of stages are off by less than this, in calls.
_ROUNDING = 1e-6


def rate_from_text(text: str | float) -> float | tuple[Stage, ...]:
    """Read ``--rate``: ``200``, or stages as ``50/10s,50..500/60s``.

    >>> rate_from_text("200")
    200.0
    >>> [str(one) for one in rate_from_text("50/10s, 50..500/1m")]
    ['50/10s', '50..500/60s']

    Raises:
        PlanError: the text is not understood.
    """
    plain = number_or_none(text) if isinstance(text, str) else text
    if plain is not None:
        return plain
    return tuple(_stage(one, str(text)) for one in str(text).split(","))


def _stage(text: str, whole: str) -> Stage:
    ends, _, time = text.strip().partition("/")
    first, ramp, last = ends.partition("..")
    rate, to = number_or_none(first), number_or_none(last) if ramp else None
    if rate is None or (ramp and to is None):
        raise PlanError(
            f"rate {whole!r} is not understood: write 200, or stages as 50/10s,50..500/60s"
        )
    if not time:
        raise PlanError(
            f"the stage {text.strip()!r} of rate {whole!r} does not say how long it lasts: write "
            f"{ends}/60s"
        )
    return Stage(rate_per_s=rate, to_per_s=to, duration_s=duration_s(time))


def check_stages(stages: Sequence[Stage], arrivals: str) -> None:
    """Refuse stages that are no load.

    Raises:
        PlanError: naming what is wrong with them.
    """
    if arrivals not in STAGED_ARRIVALS:
        raise PlanError(
            f"arrivals {arrivals!r} have no rate that changes: choose constant or poisson for "
            "stages, or replay a file of such times (replay:FILE)"
        )
    for one in stages:
        if not isinstance(one, Stage):
            raise PlanError(
                f"a stage is {one!r}: give il.Stage(rate_per_s=50, to_per_s=500, duration_s=60)"
            )
    if not 1 <= len(stages) <= MOST_STAGES:
        raise PlanError(f"a load has 1 to {MOST_STAGES:,} stages, and there are {len(stages):,}")
    calls = sum(one.calls for one in stages)
    if not calls:
        raise PlanError("the rate of every stage is 0: give one of them a rate")
    if calls > MOST_CALLS:
        raise PlanError(
            f"the stages have {calls:,.0f} calls, and their times are drawn beforehand: ask for "
            f"{MOST_CALLS:,} at most"
        )


def check_beside(
    stages: Sequence[Stage],
    duration_s: float | None,
    precision: float | None,
    warmup: str | None,
) -> None:
    """Refuse what a load in stages cannot go with; nothing of other loads.

    Raises:
        PlanError: naming what was asked for, and what to ask for instead.
    """
    if not stages:
        return
    if precision is not None:
        raise PlanError(
            f"precision={precision:g} is of the figures of one rate, and that of stages changes: "
            "leave it out, or give one rate"
        )
    if warmup == "auto":
        raise PlanError(
            "warmup 'auto' cuts off what comes before a steady state, which a rate that changes "
            "does not have: leave it out, or warm up with a stage of its own"
        )
    whole_s = length_s(stages)
    if duration_s is not None and duration_s > whole_s * (1 + 1e-9):
        raise PlanError(
            f"duration {duration_s:g} s is longer than the stages, which last {whole_s:g} s: add a "
            f"stage that goes on, as {stages[-1].end_per_s:g}/{duration_s - whole_s:g}s, or leave "
            "the duration out"
        )


def length_s(stages: Sequence[Stage]) -> float:
    """How long all stages last."""
    return math.fsum(one.duration_s for one in stages)


def schedule_of_stages(
    stages: Sequence[Stage],
    arrivals: str,
    seed: int,
    calls: int | None = None,
    duration_s: float | None = None,
) -> Schedule:
    """The times of all calls of the stages, or of the first of them.

    Constant: call i is due when the integral of the rate over time reaches i. Poisson: when it
    reaches the i-th point of a Poisson process of rate 1 (Cinlar, Introduction to Stochastic
    Processes, 1975, 4.7), which has the distribution of thinning (Lewis & Shedler, Naval Research
    Logistics Quarterly 26, 1979) and needs one draw a call.

    Raises:
        PlanError: the stages are over before so many calls, or no call is due.
    """
    whole_s, mass = length_s(stages), sum(one.calls for one in stages)
    if arrivals == "constant":
        reached = np.arange(math.ceil(mass - _ROUNDING), dtype=np.float64)
    else:
        # more than will be due, by 8 standard deviations
        most = int(mass + 8 * math.sqrt(mass) + 10)
        reached = np.cumsum(np.random.default_rng(seed).exponential(size=most))
        reached = reached[: np.searchsorted(reached, mass)]
    span_ns = round(min(whole_s, duration_s or whole_s) * NS_PER_S)
    times = np.rint(_reached_at_s(stages, reached) * NS_PER_S).astype(np.int64)
    times = times[times < span_ns]
    if calls is not None:
        if calls > len(times):
            raise PlanError(
                f"{calls:,} calls were asked for, and the stages have {len(times):,}: ask for no "
                "more than that, or make a stage longer"
            )
        span_ns = int(times[calls]) if calls < len(times) else span_ns
        times = times[:calls]
    if not len(times):
        raise PlanError(
            f"no call is due within {span_ns / NS_PER_S:g} s of the stages: raise a rate, or make "
            "them longer"
        )
    return Schedule(
        times_ns=times,
        period_ns=0,
        calls=len(times),
        span_ns=span_ns,
        in_turn=arrivals == "constant",
    )


def _reached_at_s(stages: Sequence[Stage], reached: Floats) -> Floats:
    """When the integral of the rate exceeds these values."""
    rate, end, lasts = (
        np.array([getattr(one, name) for one in stages], np.float64)
        for name in ("rate_per_s", "end_per_s", "duration_s")
    )
    begins = np.concatenate([[0.0], np.cumsum([one.calls for one in stages])[:-1]])
    # of stages that begin at one value the last: nothing is due in a pause
    own = np.searchsorted(begins, reached + _ROUNDING, side="right") - 1
    more = np.maximum(reached - begins[own], 0.0)
    # the root of rate u + slope u^2 / 2 = more that loses no digits
    slope = ((end - rate) / lasts)[own]
    root = rate[own] + np.sqrt(np.maximum(rate[own] ** 2 + 2 * slope * more, 0.0))
    within = np.divide(2 * more, root, out=np.zeros_like(more), where=root > 0)
    starts = np.concatenate([[0.0], np.cumsum(lasts)[:-1]])
    found: Floats = starts[own] + np.minimum(within, lasts[own])
    return found
