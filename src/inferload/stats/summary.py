"""Figures from a call log. numpy and scipy only."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from inferload.records.devices import STAGE_NAMES, StageFigures
from inferload.records.distribution import QUOTED_QUANTILES, Distribution, Estimate, quantile_rank
from inferload.records.figures import ModelFigures, Summary
from inferload.stats import intervals
from inferload.stats.intervals import FEWEST_FOR_A_RATE
from inferload.stats.parts import log_of_inputs, part_of
from inferload.stats.steadiness.overload import overload_of
from inferload.stats.steadiness.steady_state import steady_state, steady_state_of_few
from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.log.arrays import Int64s
    from inferload.log.calls import CallLog
    from inferload.records.figures import SteadyState, Verification
    from inferload.records.spec import ModelShare
    from inferload.stats.durations import Durations
    from inferload.stats.parts import MeasuredPart

# Batches of looks, for the interval of the mean number of calls in flight.
LOOK_BATCHES = 10


def summarize(
    log: CallLog,
    items_per_input: Sequence[int],
    *,
    callers: int = 1,
    from_s: float = 0.0,
    unfinished: int = 0,
    in_flight: tuple[float, float] | None = None,
    due_s: float | None = None,
    observed_s: float | None = None,
    clients: tuple[int, float] | None = None,
) -> Summary:
    """Compute the summary of the calls that finished after ``from_s``; failed ones are not timed.

    ``due_s``: open loop, until when calls were due: their rate is that of the time until then, or
    until the last one finished if that was later, however early the last of them was due.
    For Little's law, which is of all calls, failed ones too, ``in_flight`` is the mean number of
    calls that were found due and not finished in the time in which calls were due, and half of its
    interval; in a closed loop it is the number of callers. ``observed_s``: when the run ended, if
    calls had not finished by then. ``clients`` of a closed loop, and how long they think in the
    mean, in seconds: all of them are in a request or think.
    """
    part = part_of(log, from_s, callers)
    service = distribution_ms(part.durations("service_ns"))
    response, queue, lateness = service, None, None
    overload = overload_of(log, from_s) if clients is None else None
    why = "overloaded" if overload is not None else None
    if part.open_loop:
        response = distribution_ms(part.durations("response_ns"), unfinished, not_quoted=why)
        queue = distribution_ms(part.durations("queue_ns"), not_quoted=why)
        lateness = distribution_ms(part.durations("lateness_ns"))
    by_input = part.returned_by_input
    count, items = int(by_input.sum()), _items(by_input, items_per_input)
    until_s = due_s if part.open_loop and due_s is not None else 0.0
    duration_s = max(part.duration_s, until_s - from_s, (observed_s or 0.0) - from_s)
    calls_per_s = rate(count, duration_s, part.returned_by_window)
    busy, error = in_flight or (0.0, 0.0) if part.open_loop else (callers, 0.0)
    sampled = part.open_loop and clients is None
    if clients is not None:
        busy, error = float(clients[0]), 0.0
    span_s = until_s - from_s if until_s else part.duration_s
    law = None
    if busy and span_s > 0 and not unfinished and overload is None and count + part.failed:
        returned_s = 0.0 if response is None else count * response.mean / 1e3
        thought_s = 0.0 if clients is None else (count + part.failed) * clients[1]
        law = (returned_s + part.failed_s + thought_s) / span_s / busy
    return Summary(
        from_s=from_s,
        completed_calls=count,
        failed_calls=part.failed,
        unfinished_calls=unfinished,
        duration_s=duration_s,
        throughput_calls_per_s=calls_per_s,
        throughput_items_per_s=_times(calls_per_s, items / count if count else 0.0),
        response_ms=response,
        service_ms=service,
        queue_ms=queue,
        lateness_ms=lateness,
        littles_law=law,
        littles_law_error=law * error / busy if law is not None and sampled else None,
        stages=stage_figures(part),
        overload=overload,
    )


def stage_figures(part: MeasuredPart) -> StageFigures | None:
    """Where the service time of calls on a device went; ``None`` of calls on the CPU."""
    found = {name: distribution_ms(part.stage(f"{name}_ns")) for name in STAGE_NAMES}
    issue, wait = found.pop("issue"), found.pop("wait")
    if issue is None or wait is None:
        return None
    timed = {f"{name}_ms": one for name, one in found.items() if one is not None}
    response = part.stage("timed_ns")
    if not any(one.max > 0 for one in timed.values()):
        timed, response = {}, None  # a backend without timing leaves zeros
    return StageFigures(
        issue_ms=issue,
        wait_ms=wait,
        timed_response_ms=None if response is None else response.mean_ms,
        **timed,
    )


def model_figures(
    log: CallLog,
    share: ModelShare,
    number: int,
    summary: Summary,
    verification: Verification | None = None,
) -> ModelFigures:
    """The figures of model ``number`` of a mix, over the same part of the run.

    Of a log that is counted the distributions are of its rows, which are a sample. Whose calls
    never finished is not known: where there are such calls, or the run is not quoted for another
    reason than want of calls, no model is that is not all of it.
    """
    own = log_of_inputs(log, share)
    part = part_of(own, summary.from_s)
    count, by_window = int(part.returned_by_input.sum()), part.returned_by_window
    if log.tally is not None:
        first = round(summary.from_s * NS_PER_S / log.tally.width_ns)
        inputs = slice(share.first_input, share.first_input + share.inputs)
        windows = log.tally.returned_by_input[first:, inputs].sum(axis=1)
        count, by_window = int(windows.sum()), windows[:-1]
    response = distribution_ms(
        part.durations("response_ns"),
        not_quoted="overloaded" if _is_overloaded(share, number, summary) else None,
    )
    service = distribution_ms(part.durations("service_ns"))
    if log.tally is not None:
        response, service = (
            _of_sample(one, log.tally.sampled_one_in) for one in (response, service)
        )
    if count == summary.completed_calls:
        response = summary.response_ms
    elif response is not None and (summary.unfinished_calls or not _may_be_quoted(summary)):
        response = replace(
            response, p50=None, p90=None, p95=None, p99=None, p999=None, p9999=None, more_calls={}
        )
    return ModelFigures(
        name=share.name,
        completed_calls=count,
        failed_calls=part.failed * (1 if log.tally is None else log.tally.sampled_one_in),
        throughput_calls_per_s=rate(count, summary.duration_s, by_window),
        response_ms=response,
        service_ms=service,
        verification=verification,
    )


def _may_be_quoted(summary: Summary) -> bool:
    whole = summary.response_ms
    return whole is None or whole.may_be_quoted or whole.not_quoted is not None


def _of_sample(distribution: Distribution | None, one_in: int) -> Distribution | None:
    """Of every ``one_in``-th call: so many times as many more calls are needed for a quantile."""
    if distribution is None:
        return None
    more = {name: more * one_in for name, more in distribution.more_calls.items()}
    return replace(distribution, more_calls=more)


def _is_overloaded(share: ModelShare, number: int, summary: Summary) -> bool:
    """Whether a queue grew in which calls of a model waited."""
    queues = () if summary.overload is None else summary.overload.queues
    return any(share.callers is None or lane == number for _, lane in queues)


def rate(count: int, duration_s: float, by_window: Int64s | None = None) -> Estimate:
    """Count per second; the interval by batch means over windows of equal time."""
    value = count / duration_s if duration_s > 0 else 0.0
    bounds = None
    if by_window is not None and count >= intervals.BATCHES and value > 0:
        bounds = intervals.mean_interval(by_window)
    if bounds is None or by_window is None:
        few = f" of fewer than {FEWEST_FOR_A_RATE} calls" if count < FEWEST_FOR_A_RATE else ""
        return Estimate(value=value, method=f"count / duration{few}")
    per_s = value / float(by_window.mean())
    return Estimate(
        value=value,
        low=max(bounds[0] * per_s, 0.0),
        high=bounds[1] * per_s,
        confidence=intervals.CONFIDENCE,
        method=f"count / duration, batch means, K={len(by_window)}",
    )


def value_ms(durations: Durations, q: float) -> float:
    """The value of rank ceil(q n), however few the calls."""
    return durations.value_of_rank_ms(quantile_rank(q, durations.count))


def quantile_ms(durations: Durations, q: float, unfinished: int = 0) -> tuple[Estimate | None, int]:
    """One quantile with its interval, or ``None``, and how many more calls it needs."""
    total = durations.count + unfinished
    rank = quantile_rank(q, total)
    if rank > durations.count:
        return None, 0  # more calls would not help: it lies among those that did not finish
    value = durations.value_of_rank_ms(rank)
    if missing := intervals.more_calls_to_quote(total, q, 1.0):
        return None, missing
    over, sizes = durations.exceeding(value)
    tau = intervals.calls_per_independent_one(over, sizes, q)
    missing = intervals.more_calls_to_quote(total, q, tau)
    if missing:
        return None, missing
    low, high = intervals.interval_ranks(total, q, tau, int(np.count_nonzero(sizes)))
    return Estimate(
        value=value,
        low=durations.value_of_rank_ms(low),
        high=durations.value_of_rank_ms(high) if high <= durations.count else None,
        confidence=intervals.CONFIDENCE,
        method=f"rank ceil(q n), batch means, K={len(sizes)}",
    ), 0


def distribution_ms(
    durations: Durations | None, unfinished: int = 0, *, not_quoted: str | None = None
) -> Distribution | None:
    """Summarize durations, in milliseconds; ``None`` of no calls.

    ``not_quoted``: why no quantile of them is to be quoted.
    """
    if durations is None or durations.count == 0:
        return None
    nothing: dict[str, tuple[Estimate | None, int]] = dict.fromkeys(QUOTED_QUANTILES, (None, 0))
    found = nothing
    if not_quoted is None:
        found = {n: quantile_ms(durations, q, unfinished) for n, q in QUOTED_QUANTILES.items()}
    mean, least, largest = durations.mean_ms, durations.min_ms, durations.max_ms
    durations.let_go()
    return Distribution(
        count=durations.count + unfinished,
        mean=mean,
        min=least,
        max=largest,
        more_calls={name: more for name, (_, more) in found.items() if more},
        unfinished=unfinished,
        counted=durations.counted,
        not_quoted=not_quoted,
        sample=durations,
        **{name: estimate for name, (estimate, _) in found.items()},
    )


def judged(log: CallLog) -> SteadyState:
    """Where a run becomes steady, and whether it stays so, by its response times.

    Of fewer than 500 calls by their service times, and only whether these drift plainly.
    """
    part = part_of(log)
    if len(few := part.few_medians()):
        return steady_state_of_few(few)
    return steady_state(*part.windows(), part.pace())


def cut_of(steady: SteadyState) -> float:
    """Where the measured part begins, in seconds: nothing is cut where no steady part follows."""
    return steady.cut_s if steady.steady else 0.0


def mean_in_flight(
    looks: Sequence[Sequence[tuple[float, float]]], from_s: float
) -> tuple[float, float] | None:
    """The mean number of calls found due and not finished, and half of its 95 % interval.

    ``looks`` are pairs of a time and a number, for each machine; what they found is added.
    """
    means, errors = [], []
    for one in looks:
        found = np.array([calls for seconds, calls in one if seconds >= from_s])
        if len(found) < 2 * LOOK_BATCHES or found.mean() == 0:
            return None
        batches = [batch.mean() for batch in np.array_split(found, LOOK_BATCHES)]
        bounds = intervals.mean_interval(batches)
        if bounds is None:
            return None
        means.append(float(found.mean()))
        errors.append((bounds[1] - bounds[0]) / 2)
    return (sum(means), math.hypot(*errors)) if means else None


def _times(estimate: Estimate, factor: float) -> Estimate:
    low = None if estimate.low is None else estimate.low * factor
    high = None if estimate.high is None else estimate.high * factor
    return replace(estimate, value=estimate.value * factor, low=low, high=high)


def _items(by_input: Int64s, items_per_input: Sequence[int]) -> int:
    return int(by_input @ np.asarray(items_per_input, np.int64)[: len(by_input)])
