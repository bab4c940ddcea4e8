"""The slices of one setting, put together as if they had been one run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from inferload.log.calls import CallLog
from inferload.log.failures import CallFailure
from inferload.records.distribution import Estimate
from inferload.stats import intervals
from inferload.stats.pieces import piece_figures
from inferload.stats.service import profiles_of
from inferload.stats.slices.slice import per_second
from inferload.stats.summary import summarize

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from inferload.records.figures import Summary
    from inferload.stats.service import ServiceProfile

_TIMES = ("scheduled_ns", "started_ns", "finished_ns")


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeOfSlices:
    """What slices come to: a summary, and how long calls took."""

    summary: Summary
    services: tuple[ServiceProfile, ...] = ()


def whole_of_slices(
    slices: Sequence[Mapping[str, NDArray[Any]]], items_per_input: Sequence[int], callers: int
) -> WholeOfSlices:
    """What calls in slices come to, each given by the columns of its log, in order of time.

    What lay between slices is left out. Throughput is the mean of the slices' rates, as
    ``per_second`` has them.
    """
    columns = [_moved(one, at_ns) for one, at_ns in zip(slices, _begins_ns(slices), strict=True)]
    together = {name: np.concatenate([one[name] for one in columns]) for name in columns[0]}
    failed = together["error"] >= 0
    together["error"] = np.where(failed, 0, -1).astype(together["error"].dtype)
    errors = (CallFailure(type="Error", message="a call failed"),) if failed.any() else ()
    log = CallLog.of(together, errors, callers_by_lane=(callers,), open_loop=False)
    summary = summarize(log, items_per_input, callers=callers)
    items = np.asarray(items_per_input, np.int64)
    done = [{name: values[one["error"] < 0] for name, values in one.items()} for one in columns]
    whole = replace(
        summary,
        throughput_calls_per_s=_mean([_rate(one, np.ones_like(one["input"])) for one in done]),
        throughput_items_per_s=_mean([_rate(one, items[one["input"]]) for one in done]),
        pieces=piece_figures(log, summary),
        littles_law=None,
        littles_law_error=None,
    )
    return WholeOfSlices(summary=whole, services=profiles_of(log, callers))


def _begins_ns(slices: Sequence[Mapping[str, NDArray[Any]]]) -> list[int]:
    """When each slice begins, if it follows upon the one before."""
    begins = [0]
    for one in slices:
        begins.append(begins[-1] + int(one["finished_ns"].max() - one["started_ns"].min()))
    return begins[:-1]


def _moved(columns: Mapping[str, NDArray[Any]], at_ns: int) -> dict[str, NDArray[Any]]:
    by_ns = at_ns - int(columns["started_ns"].min())
    return {name: one + by_ns if name in _TIMES else one for name, one in columns.items()}


def _rate(columns: Mapping[str, NDArray[Any]], weights: NDArray[Any]) -> float:
    return per_second(columns["caller"], weights, columns["started_ns"], columns["finished_ns"])


def _mean(rates: Sequence[float]) -> Estimate:
    bounds = intervals.mean_interval(rates)
    method = f"mean of {len(rates)} slices"
    if bounds is None:
        return Estimate(value=float(np.mean(rates)), method=method)
    return Estimate(
        value=float(np.mean(rates)),
        low=max(bounds[0], 0.0),
        high=bounds[1],
        confidence=intervals.CONFIDENCE,
        method=method,
    )
