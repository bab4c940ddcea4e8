"""What a run at one rate says of limits, and where the next one should be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from inferload.stats.limits.judging import judged_limits, lasts_long_enough, verdict_of_all
from inferload.stats.steadiness.overload import backlog_grows
from inferload.studies.records.max_rate import Probe
from inferload.studies.records.settings import Settings, StudyRun

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.records.result import RunResult
    from inferload.stats.limits.limit import Limit

# Probes this far from the answer, as a fraction, count for a third in placing it; and by how much
# the log odds of a call over its limit grow with the logarithm of the rate, where they do at all.
NEAR, LEAST_SLOPE = 0.1, 1.0


def crossing(probes: Sequence[Probe], limit: Limit, near: float) -> float | None:
    """The rate at which so many calls take longer than a limit as its quantile allows.

    By a line through the log odds of the calls over the limit against the logarithm of the rate,
    weighted by what each probe knows and how near it is; ``None`` where there is no such line.
    """
    if limit.quantile is None:
        return None
    places, odds, weights = [], [], []
    for probe in probes:
        (one,) = [one for one in probe.judgements if one.limit == limit]
        if probe.verdict == "unstable" or one.over_fraction is None or not one.independent_calls:
            continue
        calls = one.independent_calls
        share = (one.over_fraction * calls + 0.5) / (calls + 1)
        place = math.log(probe.rate_per_s / near)
        places.append(place)
        odds.append(math.log(share / (1 - share)))
        weights.append(calls * share * (1 - share) * math.exp(-((place / NEAR) ** 2)))
    total = sum(weights)
    if len(places) < 2 or total <= 0:
        return None
    middle, level = np.average([places, odds], axis=1, weights=weights)
    spread = np.average((np.array(places) - middle) ** 2, weights=weights)
    if spread <= 0:
        return None
    verdict_of_all = np.average(
        (np.array(places) - middle) * (np.array(odds) - level), weights=weights
    )
    slope = verdict_of_all / spread
    if slope < LEAST_SLOPE:
        return None
    wanted = math.log((1 - limit.quantile) / limit.quantile)
    return float(near * math.exp(middle + (wanted - level) / slope))


def judged_probe(
    result: RunResult,
    rate_per_s: float,
    limits: Sequence[Limit],
    *,
    confirms: bool,
    floor: float | None = None,
) -> Probe:
    """What a run at a rate says of limits; ``floor``: so many calls must return per second."""
    summary = result.summary
    judgements = judged_limits(result.log, limits, summary.from_s, summary.unfinished_calls)
    verdict: str = verdict_of_all([one for one in judgements if not one.limit.at_least])
    if verdict == "kept" and not lasts_long_enough(result.log, limits, summary.from_s):
        verdict = "open"
    if summary.unfinished_calls or backlog_grows(result.log, summary.from_s):
        verdict = "unstable"
    made = summary.completed_calls + summary.failed_calls + summary.unfinished_calls
    if floor is not None and summary.completed_calls * rate_per_s < floor * made * (1 - 1e-9):
        verdict = "broken"
    return Probe(
        rate_per_s=rate_per_s,
        verdict=verdict,
        judgements=judgements,
        confirms=confirms,
        run=StudyRun.of(Settings(rate_per_s=rate_per_s), result),
    )


def _too_slow_alone(probe: Probe) -> str | None:
    """Why no lower rate would do either: a call takes too long whether it has queued or not."""
    for one in probe.judgements:
        if one.service is not None and one.service > one.limit.bound:
            return (
                f"a call takes too long by itself, {one.limit.name} "
                f"{one.limit.text_of(one.service)} at {probe.rate_per_s:,.4g}/s without its queue"
            )
    return None


def says_something(probe: Probe) -> bool:
    """Whether a run has the calls to quote the figures that are limited."""
    return probe.verdict == "kept" or all(
        one.low is not None
        and one.high is not None
        and (one.limit.figure != "errors" or one.high <= 4 * one.limit.bound)
        for one in probe.judgements
        if not one.limit.at_least
    )


def too_little_goodput(probe: Probe) -> str | None:
    """Why the highest rate that keeps the limits will not do, where goodput is asked for."""
    for one in probe.judgements:
        if one.limit.figure == "goodput" and one.verdict == "broken" and one.value is not None:
            return (
                f"{one.limit} is not reached: at {probe.rate_per_s:,.4g}/s, the highest rate that "
                f"keeps the other limits, goodput is {one.limit.text_of(one.value)}"
            )
    return None


def keeps_limits(probe: Probe) -> bool:
    """Whether limits are kept, or all figures lie within them and calls are too few to be sure."""
    if probe.verdict != "open":
        return probe.verdict == "kept"
    rooms = [one.room_fraction for one in probe.judgements if not one.limit.at_least]
    return all(room is not None and room >= 0 for room in rooms)
