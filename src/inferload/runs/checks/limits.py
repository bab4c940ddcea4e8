"""Whether a run kept the limits that it was given, once it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferload.records.limits import LimitVerdict
from inferload.stats.limits.judging import Judgement, judged_limits
from inferload.stats.limits.limit import Limit
from inferload.stats.load_stages import judged_in_stages

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from inferload.log.calls import CallLog
    from inferload.records.figures import Summary
    from inferload.records.stages import LoadStage

# What says the most of a limit that stages say different things of.
_WORST_FIRST = ("broken", "open", "kept")


def limit_verdicts(
    log: CallLog,
    written: Sequence[str],
    summary: Summary,
    stages: Sequence[LoadStage],
    broken: Mapping[str, tuple[float, int | None]],
) -> tuple[LimitVerdict, ...]:
    """Judge limits by the measured part; of a load in stages each of them, and the worst is told.

    What ended the run is broken, whatever the calls say that were still waited for.
    """
    limits = tuple(map(Limit.from_text, written))
    whole = judged_limits(
        log,
        limits,
        summary.from_s,
        summary.unfinished_calls,
        duration_s=summary.duration_s,
    )
    by_stage = _of_stages(log, limits, stages) if stages else {}
    found = []
    for one in whole:
        own = by_stage.get(one.limit.figure, {})
        at_s, number = broken.get(one.limit.written, (None, None))
        if own:
            number = number or min(own, key=lambda stage: _order(own[stage]))
            one = own.get(number, one)  # noqa: PLW2901 - what its stage says
        found.append(
            LimitVerdict(
                limit=one.limit.written,
                verdict=one.verdict if at_s is None else "broken",
                value=one.value,
                low=one.low,
                high=one.high,
                calls_missing=None if at_s is not None else one.calls_missing,
                broken_at_s=at_s,
                stage=number,
            )
        )
    return tuple(found)


def _of_stages(
    log: CallLog, limits: Sequence[Limit], stages: Sequence[LoadStage]
) -> dict[str, dict[int, Judgement]]:
    """By figure and number of the stage; rates are of the whole run, and so are single gaps."""
    judged = tuple(one for one in limits if not one.at_least and one.of != "gap")
    found: dict[str, dict[int, Judgement]] = {}
    asked, lost = zip(*((one.stage, one.unfinished_calls) for one in stages), strict=True)
    for number, own, said in judged_in_stages(log, judged, asked, lost):
        if len(own) or lost[number - 1]:  # else it is a pause
            for one in said:
                found.setdefault(one.limit.figure, {})[number] = one
    return found


def _order(one: Judgement) -> tuple[int, float]:
    room = one.room_fraction
    return _WORST_FIRST.index(one.verdict), float("-inf") if room is None else room
