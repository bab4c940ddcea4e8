"""What is doubtful about the load of a run: more than the callers can serve, or not as asked."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from inferload.stats.intervals import FEWEST_FOR_A_RATE
from inferload.units import NS_PER_S, count_text, rate_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inferload.records.figures import Overload
    from inferload.records.result import RunResult
    from inferload.records.spec import RunSpec

#: At so much of what was served a queue is short: in M/M/1 it holds four calls in the mean.
HEADROOM = 0.8
#: Arrivals whose times are drawn, so that a short run has more or fewer of them than its rate says.
DRAWN = ("poisson", "gamma")
#: A draw that is off by less than this is not spoken of.
WORTH_TELLING = 0.02


def due_per_s(result: RunResult) -> float | None:
    """How many calls a second were due in the measured part of an open loop.

    ``None`` where that is not known, and of so few calls that they have no rate. What was due in
    the time of a queue that grew is what ``Overload`` says; of a run that was not ended by its
    duration, calls that never finished may have been due after all others.
    """
    spec, summary, log = result.spec, result.summary, result.log
    if not spec.open_loop or result.status not in {"complete", "interrupted"}:
        return None
    if summary.overload is not None and summary.overload.queues_in_all == 1:
        return summary.overload.asked_per_s
    due_ns = log.scheduled_ns[log.scheduled_ns >= summary.from_s * NS_PER_S]
    if len(due_ns) < FEWEST_FOR_A_RATE:
        return None
    calls = len(due_ns) * (log.calls_made / len(log))  # the rows may be a sample
    to_its_end = not any(one.broken_at_s is not None for one in result.limits)
    if spec.duration_s is not None and result.status == "complete" and to_its_end:
        return (calls + summary.unfinished_calls) / (spec.duration_s - summary.from_s)
    span_s = float(due_ns.max()) / NS_PER_S - summary.from_s
    if summary.unfinished_calls and not to_its_end:  # it ended at once
        calls, span_s = calls + summary.unfinished_calls + 1, summary.duration_s
    elif summary.unfinished_calls or span_s <= 0:
        return None
    return (calls - 1) / span_s


def by_the_draw(spec: RunSpec, found_per_s: float | None) -> str:
    """Which rate was asked for, where another one was due because times are drawn; else nothing."""
    if found_per_s is None or spec.rate_per_s is None or spec.arrivals not in DRAWN:
        return ""
    if abs(found_per_s / spec.rate_per_s - 1) <= WORTH_TELLING:
        return ""
    return f"by the draw, {spec.rate_per_s:,.6g}/s on average"


def overloaded(spec: RunSpec, found: Overload) -> Iterator[tuple[str, str, str]]:
    """An open loop whose queue grew: what was due and served, and the rate or callers to try.

    Never a longer run, in which the queue is longer.
    """
    served = f"{rate_text(found.served_per_s)} of {rate_text(found.asked_per_s)} due {spec.unit}s/s"
    notes = [f"utilisation {found.utilisation:.0%}"] if found.served_per_s else []
    draw = by_the_draw(spec, found.asked_per_s) if found.queues_in_all == 1 else ""
    notes += [f"{rate_text(found.asked_per_s)}/s {draw}"] if draw else []
    share = f" ({'; '.join(notes)})" if notes else ""
    yield (
        "overloaded",
        (
            f"{_who(spec, found)} served {served}{share}: the queue grew through the run, so that "
            "latencies say how long it lasted, and none is quoted"
        ),
        f"{_slower(spec, found)}, or {_more_callers(spec, found)} if so many calls can run at once",
    )


def _who(spec: RunSpec, found: Overload) -> str:
    own = len(spec.callers_by_lane) > 1
    process, lane = found.queues[0]
    callers = count_text(spec.callers_by_lane[lane] if own else spec.callers_per_process, "caller")
    if found.queues_in_all == 1:
        return f"the {count_text(spec.callers, 'caller')}" if spec.callers > 1 else "the caller"
    names = [f"of {spec.models[lane].name}"] if own else []
    names += [f"of process {process}"] if spec.processes > 1 else []
    whose = " ".join([f"the {callers}", *names])
    if len(found.queues) == 1:
        return whose
    return f"in {len(found.queues)} of {found.queues_in_all} queues callers fell behind: {whose}"


def _slower(spec: RunSpec, found: Overload) -> str:
    """A rate that can be served, with room."""
    share = HEADROOM / _times_too_much(spec, found)
    if spec.rate_per_s is None:  # a replay of one moment
        return f"a replay of {_down(share)} of its speed"
    rate = _down(share * spec.rate_per_s)
    return f"--rate {rate} (of a replay, {_down(share)} of its speed)"


def _times_too_much(spec: RunSpec, found: Overload) -> float:
    """How many times what is served will be due in the long run; by chance it was more or less."""
    if found.queues_in_all == 1 and spec.rate_per_s is not None and found.served_per_s > 0:
        return max(spec.rate_per_s / found.served_per_s, 1.0)
    return found.utilisation


def _down(value: float) -> str:
    """Three digits, rounded down.

    >>> _down(31.97), _down(0.5279), _down(1234.0)
    ('31.9', '0.527', '1230')
    """
    if value <= 0:
        return "0"
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return f"{math.floor(value / unit + 1e-9) * unit:.6g}"


def _more_callers(spec: RunSpec, found: Overload) -> str:
    """So many callers as would serve the rate, with room, if they made as many calls each."""
    times = _times_too_much(spec, found) / HEADROOM
    if not math.isfinite(times):  # nothing was served while calls were due
        return "more callers"
    if len(spec.callers_by_lane) > 1:
        lane = found.queues[0][1]
        wanted = math.ceil(spec.callers_by_lane[lane] * times - 1e-9)
        return f"{wanted} callers for {spec.models[lane].name}"
    return f"--callers {math.ceil(spec.callers_per_process * times - 1e-9)}"
