"""What was measured of a service, put together: how long calls take with so many under way."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from inferload.errors import PlanError
from inferload.records.distribution import Estimate
from inferload.stats.intervals import calls_to_quote, student_t
from inferload.stats.service import LEVELS, values_of
from inferload.studies.forecast.state import Replica, Rules
from inferload.units import count_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from inferload.log.arrays import Floats
    from inferload.stats.service import ServiceProfile

#: So many times as many calls as were measured are still told, with what they may come to.
BEYOND = 2
#: Values of equal likelihood that calls are drawn from.
_VALUES = 4096
_FEWEST_RUNS = 3
_NOT_MEASURED = "measure them as well (`inferload sweep MODEL --callers"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measured:
    """Profiles, one for each number of calls under way and size of batches.

    ``by``: them by both, where the size is 1 of calls that are no batches.
    """

    by: Mapping[tuple[int, int], ServiceProfile]
    levels: tuple[int, ...] = field(init=False)
    sizes: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(sorted({k for k, _ in self.by})))
        object.__setattr__(self, "sizes", tuple(sorted({size for _, size in self.by})))

    @classmethod
    def of(cls, profiles: Sequence[ServiceProfile]) -> Measured:
        """From the profiles of several runs, those of one kind put together."""
        kinds: dict[tuple[int, int], list[ServiceProfile]] = {}
        for one in profiles:
            kinds.setdefault((one.in_flight, one.batch_size or 1), []).append(one)
        return cls(by={kind: _together(own) for kind, own in kinds.items()})

    def at(self, bound: str) -> Measured:
        """The same with every mean at the ``"low"`` or ``"high"`` end of its interval."""
        by = {}
        for kind, one in self.by.items():
            end = getattr(one.mean_ms, bound)
            mean = one.mean_ms if end is None else replace(one.mean_ms, value=end)
            by[kind] = replace(one, mean_ms=mean)
        return Measured(by=by)

    @property
    def best_slots(self) -> int:
        """With how many calls under way most are made."""
        return max(self.levels, key=lambda k: max(self._rate(*kind) for kind in self._kinds(k)))

    def mean_ns(self, in_flight: int, size: int) -> float:
        """The mean time of a batch; between measured numbers a straight line, before them flat."""
        known = self._sizes_of(self._nearest(in_flight))
        level = {size: self._over_levels(in_flight, size) for size in known}
        return float(np.interp(size, [*level], [*level.values()]))

    def largest_batch(self, slots: int) -> int:
        """The largest batch that was measured with so many under way, or nearly."""
        return max(self._sizes_of(self._nearest(slots)))

    def capacity_per_s(self, slots: int, max_batch: int) -> float:
        """The most requests a second that a replica makes."""
        return max(
            slots * size / self.mean_ns(slots, size) * 1e9
            for size in range(1, max_batch + 1)
            if size in {1, max_batch} or size in self.sizes
        )

    def replica(
        self, slots: int, max_batch: int = 1, delay_s: float = 0.0, *, flat: bool = True
    ) -> Replica:
        """What a replica is like. ``flat``: beyond what was measured nothing more is made."""
        most = self.levels[-1]
        slow = [1.0]
        for k in range(1, slots + 1):
            beyond = k / most if k > most and flat else 1.0
            slow.append(self._slowness(min(k, most)) * beyond)
        pace = 1 / np.array(slow)
        base = self._nearest(slots)
        own = self._slowness(base)
        work = np.array([0.0, *(self.mean_ns(base, b) / own for b in range(1, max_batch + 1))])
        kinds = [*self.by]
        table = np.zeros((slots + 1, max_batch + 1), np.int64)
        for k in range(1, slots + 1):
            for size in range(1, max_batch + 1):
                table[k, size] = kinds.index(self._nearest_kind(k, size))
        shapes = [values_of(np.array(self.by[kind].shape), _VALUES) for kind in kinds]
        busiest = self.by[self._nearest_kind(slots, max_batch)]
        speeds = np.array(busiest.speeds or (1.0,))
        return Replica(
            rules=Rules(
                slots=slots,
                max_batch=max_batch,
                delay_ns=delay_s * 1e9,
                window_ns=(busiest.window_s or math.inf) * 1e9,
            ),
            pace=pace,
            work_ns=work,
            table=table,
            shapes=np.array(shapes),
            speed=speeds,
        )

    def factors(self, slots: int) -> Floats:
        """What requests take of the mean, by their inputs: factors of equal likelihood."""
        one = self.by[self._nearest_kind(slots, 1)]
        if len(one.factors) == 1:
            return np.ones(1)
        shares = np.cumsum(one.shares)
        place = np.searchsorted(shares / shares[-1], (np.arange(_VALUES) + 0.5) / _VALUES)
        return np.array(one.factors)[place]

    def calls(self, slots: int, max_batch: int) -> int:
        """How many calls say what a replica does when it is full."""
        return self.by[self._nearest_kind(slots, max_batch)].calls

    def may_say(self, q: float, slots: int, max_batch: int) -> bool:
        """Whether calls are enough to say what a quantile of their times is."""
        return self.calls(slots, max_batch) >= calls_to_quote(q)

    def check(self, slots: int, max_batch: int) -> list[str]:
        """What a replica does that was not measured, in words.

        Raises:
            PlanError: it is too far from what was.
        """
        most = self.levels[-1]
        notes = []
        if slots > BEYOND * most:
            raise PlanError(
                f"{slots} calls at once were not measured, and {count_text(most, 'call')} at most: "
                f"{_NOT_MEASURED} {most},{slots}`), or ask for {BEYOND * most} or fewer"
            )
        if slots > most:
            notes.append(
                f"more than {most} calls at once were not measured: between no more of them a "
                f"second than with {most}, which is what is told, and as many more as there are"
            )
        least = self.levels[0]
        if slots > 1 and least > 1:
            notes.append(
                f"fewer than {least} calls at once were not measured: they are taken to be no "
                f"faster ({_NOT_MEASURED} 1,{most}`)"
            )
        largest = self.largest_batch(slots)
        if max_batch > largest:
            seen = "no batches were measured" if largest == 1 else f"{largest} were the most"
            raise PlanError(
                f"batches of up to {max_batch} were not measured ({seen}): `inferload sweep MODEL "
                f"--max-batches 1,{max_batch} --clients {4 * max_batch}` does"
            )
        return notes

    def _kinds(self, in_flight: int) -> list[tuple[int, int]]:
        return [kind for kind in self.by if kind[0] == in_flight]

    def _rate(self, in_flight: int, size: int) -> float:
        return in_flight * size / self.by[in_flight, size].mean_ms.value

    def _sizes_of(self, in_flight: int) -> list[int]:
        return sorted(size for _, size in self._kinds(in_flight))

    def _nearest(self, in_flight: int) -> int:
        return min(self.levels, key=lambda k: (abs(k - in_flight), k))

    def _nearest_kind(self, in_flight: int, size: int) -> tuple[int, int]:
        level = self._nearest(in_flight)
        return level, min(self._sizes_of(level), key=lambda own: abs(own - size))

    def _over_levels(self, in_flight: int, size: int) -> float:
        levels = [k for k in self.levels if (k, size) in self.by]
        means = [self.by[k, size].mean_ms.value * 1e6 for k in levels]
        return float(np.interp(in_flight, levels, means))

    def _slowness(self, in_flight: int) -> float:
        """How much slower calls are than with the fewest under way, over sizes of batches."""
        least = self.levels[0]
        below = [k for k in self.levels if k <= in_flight] or [least]
        above = [k for k in self.levels if k >= in_flight] or [self.levels[-1]]
        ends = [self._slowness_of(below[-1]), self._slowness_of(above[0])]
        return float(np.interp(in_flight, [below[-1], above[0]], ends))

    def _slowness_of(self, level: int) -> float:
        least = self.levels[0]
        both = [size for size in self._sizes_of(level) if (least, size) in self.by]
        if not both:
            return 1.0
        ratios = [
            self.by[level, size].mean_ms.value / self.by[least, size].mean_ms.value for size in both
        ]
        return float(np.mean(ratios))


def _together(profiles: Sequence[ServiceProfile]) -> ServiceProfile:
    """Profiles of several runs of one kind as one."""
    if len(profiles) == 1:
        return profiles[0]
    calls = np.array([one.calls for one in profiles], np.float64)
    means = np.array([one.mean_ms.value for one in profiles])
    mean = float(np.average(means, weights=calls))
    values = np.sort(
        np.concatenate(
            [
                values_of(np.array(one.shape), max(round(_VALUES * n / calls.sum()), 1))
                for one, n in zip(profiles, calls, strict=True)
            ]
        )
    )
    alike = len({len(one.factors) for one in profiles}) == 1
    factors = np.average([one.factors for one in profiles], axis=0, weights=calls) if alike else [1]
    shares = np.average([one.shares for one in profiles], axis=0, weights=calls) if alike else [1]
    speeds = [
        speed * mean / one.mean_ms.value for one in profiles for speed in (one.speeds or (1.0,))
    ]
    windows = [one.window_s for one in profiles if one.window_s is not None]
    return replace(
        profiles[0],
        calls=int(calls.sum()),
        mean_ms=_mean_of(mean, means, profiles),
        shape=tuple(np.quantile(values, LEVELS).tolist()),
        factors=tuple(float(one) for one in factors),
        shares=tuple(float(one) for one in shares),
        speeds=tuple(speeds) if windows else (),
        window_s=float(np.mean(windows)) if windows else None,
    )


def _mean_of(mean: float, means: Floats, profiles: Sequence[ServiceProfile]) -> Estimate:
    """The mean of several runs, with what they differ by; of two, what either may be."""
    if len(means) >= _FEWEST_RUNS:
        half = student_t(len(means) - 1) * float(means.std(ddof=1)) / math.sqrt(len(means))
        method = f"mean of {len(means)} runs"
        return Estimate(
            value=mean, low=max(mean - half, 0.0), high=mean + half, confidence=0.95, method=method
        )
    ends = [one.mean_ms for one in profiles]
    lows = [one.value if one.low is None else one.low for one in ends]
    highs = [one.value if one.high is None else one.high for one in ends]
    return Estimate(value=mean, low=min(lows), high=max(highs), method="range of two runs")
