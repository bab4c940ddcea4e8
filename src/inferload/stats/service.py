"""How long calls take with so many under way, from a log: what a forecast is made from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inferload.records.distribution import Estimate
from inferload.stats import intervals
from inferload.units import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.log.arrays import Floats, Int64s
    from inferload.log.calls import CallLog
    from inferload.records.spec import RunSpec

#: The levels of the quantiles in ``ServiceProfile.shape``: closer to each other in the tail.
LEVELS: Floats = np.concatenate(
    [np.linspace(0, 0.99, 100), 1 - 0.01 * 2.0 ** (-np.arange(1, 15) / 2), [1.0]]
)
#: Of more inputs than this no factors are kept: their calls are taken as one kind.
MOST_INPUTS = 256
#: Calls that are looked at; of more a part, evenly.
_MOST_CALLS = 2_000_000
_MOST_WINDOWS = 128
_CALLS_OF_WINDOW = 20
_FEWEST_CALLS = 3
#: Of this share of the time all callers are busy, or it is not known how many calls were under way.
_ALL_BUSY = 0.9
_FEWEST_WINDOWS = 10
_METHOD = "mean of windows"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceProfile:
    """How long calls took with ``in_flight`` of them under way all the time.

    ``batch_size``: requests in each, where they were called in batches. ``mean_ms`` is of ``calls``
    calls. A call took ``mean_ms`` times the factor of its input times its shape: ``factors`` are
    those of the inputs, each called as often as its share of ``shares`` says, and ``shape`` has the
    quantiles of what is left, at ``stats.service.LEVELS``; the mean of either is 1.
    ``speeds``: how fast calls were in windows of ``window_s``, one after another, 1 in the mean.
    """

    in_flight: int
    batch_size: int | None = None
    calls: int
    mean_ms: Estimate
    shape: tuple[float, ...]
    factors: tuple[float, ...] = (1.0,)
    shares: tuple[float, ...] = (1.0,)
    window_s: float | None = None
    speeds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        ends = (self.mean_ms.low, self.mean_ms.value, self.mean_ms.high)
        positive = [*(one for one in ends if one is not None), *self.factors, *self.speeds]
        if self.speeds:
            positive.append(self.window_s or 0.0)
        if self.in_flight < 1 or self.calls < 1 or (self.batch_size or 1) < 1:
            raise ValueError("a service is of one call or more")
        if not all(0 < one < math.inf for one in positive):
            raise ValueError("times, factors and speeds of a service are above 0")
        if len(self.shape) != len(LEVELS) or not 0 < sum(self.shape) < math.inf:
            raise ValueError(f"the shape of a service has {len(LEVELS)} values")
        if len(self.factors) != len(self.shares) or not 0 < sum(self.shares) < math.inf:
            raise ValueError("each factor of a service has its share")


def profiles_of_run(log: CallLog, spec: RunSpec, from_s: float) -> tuple[ServiceProfile, ...]:
    """The profiles of a run, one a size of batches; none where ``why_no_profile`` says why."""
    if why_no_profile(spec) is not None:
        return ()
    if spec.batching is not None and spec.callers > 1 and _busy(log, spec, from_s) < _ALL_BUSY:
        return ()
    return profiles_of(log, spec.callers, from_s)


def _busy(log: CallLog, spec: RunSpec, from_s: float) -> float:
    """For how much of the time the callers of a run had batches under way."""
    kept = log.rows(log.finished_ns > round(from_s * NS_PER_S))
    if not len(kept):
        return 0.0
    _, single = np.unique(kept.batches["batch"], return_index=True)
    span_ns = int(kept.finished_ns.max() - kept.started_ns.min())
    return float(kept.service_ns[single].sum()) / max(span_ns * spec.callers, 1)


def why_no_profile(spec: RunSpec) -> str | None:
    """Why a run does not tell how many of its calls were under way, in words."""
    if spec.servers:
        return "its calls went to a server, and how many it served at once is not known"
    if len(spec.callers_by_lane) > 1:
        return "each of its models has callers of its own"
    if spec.batching is None and spec.callers > 1:
        if spec.open_loop:
            return (
                f"between 1 and {spec.callers} of its calls were under way, as they were due: "
                "measure a closed loop (`inferload sweep MODEL --callers 1,2,4`)"
            )
        if spec.think_s or (spec.clients or spec.callers) < spec.callers:
            return "its clients leave callers idle: measure callers without clients"
    return None


def why_idle(spec: RunSpec) -> str:
    """Why batches of several callers may say nothing, in words."""
    clients = 2 * spec.callers * (spec.batching.max_batch if spec.batching is not None else 1)
    return (
        f"it has too few calls, or its callers were not all busy: --clients {clients} keeps them so"
    )


def profiles_of(log: CallLog, in_flight: int, from_s: float = 0.0) -> tuple[ServiceProfile, ...]:
    """How long the calls of a log took that returned after ``from_s``, one a size of batches.

    ``in_flight`` of them are taken to have been under way all the time.
    """
    kept = log.rows(log.completed & (log.finished_ns > round(from_s * NS_PER_S)))
    if "batch" not in log.batches:
        return _profile(kept, in_flight, None)
    _, one_of_each = np.unique(kept.batches["batch"], return_index=True)
    single = kept.rows(one_of_each)
    sizes = np.unique(single.batches["batch_size"])
    found = [
        _profile(single.rows(single.batches["batch_size"] == size), in_flight, int(size))
        for size in sizes
    ]
    return tuple(one for own in found for one in own)


def _profile(log: CallLog, in_flight: int, batch_size: int | None) -> tuple[ServiceProfile, ...]:
    """The profile of some calls of one size; none of too few."""
    calls = len(log)
    if calls < _FEWEST_CALLS:
        return ()
    order = np.argsort(log.finished_ns, kind="stable")[:: max(calls // _MOST_CALLS, 1)]
    took = log.service_ns[order].astype(np.float64)
    given = log.input[order].astype(np.int64)
    if batch_size is not None:  # the requests of a batch share its time
        given = np.zeros_like(given)
    mean = float(took.mean())
    factors, shares = _factors(took, given, mean)
    rest = took / (mean * factors[given if len(factors) > 1 else 0])
    windows = min(len(took) // _CALLS_OF_WINDOW, _MOST_WINDOWS)
    slowness: Floats = np.ones(0)
    bounds = None
    if windows >= _FEWEST_WINDOWS:
        parts = np.array_split(rest, windows)
        means = np.array([one.mean() for one in parts])
        bounds = intervals.mean_interval(means * mean / NS_PER_MS)
        slowness = _beyond_chance(means, parts)
        rest = np.concatenate([one / slow for one, slow in zip(parts, slowness, strict=True)])
    span_s = float(log.finished_ns.max() - log.started_ns.min()) / NS_PER_S
    return (
        ServiceProfile(
            in_flight=in_flight,
            batch_size=batch_size,
            calls=calls,
            mean_ms=Estimate(
                value=mean / NS_PER_MS,
                low=None if bounds is None else max(bounds[0], mean / NS_PER_MS / 10),
                high=None if bounds is None else bounds[1],
                confidence=None if bounds is None else intervals.CONFIDENCE,
                method=_METHOD,
            ),
            factors=_told(factors),
            shares=_told(shares),
            shape=_told(np.quantile(rest, LEVELS) / rest.mean()),
            window_s=span_s / windows if len(slowness) else None,
            speeds=_told(1 / slowness / (1 / slowness).mean()) if len(slowness) else (),
        ),
    )


def _beyond_chance(means: Floats, parts: Sequence[Floats]) -> Floats:
    """How slow each window was, less what windows of independent calls would differ by."""
    chance = float(np.mean([one.var(ddof=1) / len(one) for one in parts]))
    differ = float(means.var(ddof=1))
    kept = math.sqrt(max(1 - chance / differ, 0.0)) if differ > 0 else 0.0
    found: Floats = 1 + (means / means.mean() - 1) * kept
    return found


def _factors(took: Floats, given: Int64s, mean: float) -> tuple[Floats, Floats]:
    """How long each input takes of the mean, and its share of the calls."""
    calls = np.bincount(given)
    known = np.flatnonzero(calls)
    if not 1 < len(known) <= MOST_INPUTS or len(took) < 3 * len(known):
        return np.ones(1), np.ones(1)
    sums = np.bincount(given, weights=took)
    factors = np.divide(sums, calls * mean, out=np.ones(len(calls)), where=calls > 0)
    return factors, calls / calls.sum()


def _told(values: Floats) -> tuple[float, ...]:
    """With as many digits as they say something."""
    return tuple(np.round(values, 6).tolist())


def values_of(shape: Floats, count: int) -> Floats:
    """So many values that are equally likely, of quantiles at ``LEVELS``; their mean is 1."""
    found: Floats = np.interp((np.arange(count) + 0.5) / count, LEVELS, shape)
    found /= found.mean()
    return found
