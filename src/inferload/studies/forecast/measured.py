"""What was measured of a service, put together: how long calls take with so many under way."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from inferload.errors import PlanError
from inferload.stats.service import values_of
from inferload.studies.forecast.merging import VALUES, together
from inferload.studies.forecast.state import Replica, Rules
from inferload.units import count_text, ranges_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from inferload.log.arrays import Floats
    from inferload.stats.pauses import Pauses
    from inferload.stats.service import ServiceProfile

#: So many times as many calls as were measured are still told, with what they may come to.
BEYOND = 2
# What is made beyond falls by this power of the number of calls at least, at the far end.
_FALLS = 0.1
# Several calls at once that make less than this of what one makes bring nothing.
_NO_MORE = 1.1
#: So few calls of a kind say nothing.
FEWEST_CALLS = 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measured:
    """Profiles, one for each number of calls under way and size of batches.

    ``by``: them by both, where the size is 1 of calls that are no batches. ``end``: with means at
    the ``"low"`` or ``"high"`` end of what is known, and what was not measured accordingly.
    ``pauses``: what they cost, where that was measured.
    """

    by: Mapping[tuple[int, int], ServiceProfile]
    end: str = "value"
    pauses: Pauses | None = None
    levels: tuple[int, ...] = field(init=False)
    sizes: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(sorted({k for k, _ in self.by})))
        object.__setattr__(self, "sizes", tuple(sorted({size for _, size in self.by})))

    @classmethod
    def of(cls, profiles: Sequence[ServiceProfile], pauses: Pauses | None = None) -> Measured:
        """From the profiles of several runs, those of one kind put together.

        Raises:
            PlanError: there is no kind of which there are calls enough.
        """
        kinds: dict[tuple[int, int], list[ServiceProfile]] = {}
        for one in profiles:
            kinds.setdefault((one.in_flight, one.batch_size or 1), []).append(one)
        calls = {kind: sum(one.calls for one in own) for kind, own in kinds.items()}
        enough = {kind: own for kind, own in kinds.items() if calls[kind] >= FEWEST_CALLS}
        if not enough:
            most = max(calls.values(), default=0)
            raise PlanError(
                f"{count_text(most, 'call')} of a kind were measured at most, and a forecast needs "
                f"{FEWEST_CALLS}: measure longer (--duration)"
            )
        by = {kind: together(own) for kind, own in enough.items()}
        return cls(by=by, pauses=pauses)

    def at(self, end: str) -> Measured:
        """The same with every mean at the ``"low"`` or ``"high"`` end of its interval."""
        by = {}
        for kind, one in self.by.items():
            bound = getattr(one.mean_ms, end)
            mean = one.mean_ms if bound is None else replace(one.mean_ms, value=bound)
            by[kind] = replace(one, mean_ms=mean)
        return Measured(by=by, end=end, pauses=self.pauses)

    def one_at_a_time(self) -> Measured:
        """What calls take that nobody else has under way."""
        by = {kind: one for kind, one in self.by.items() if kind[0] == 1}
        return Measured(by=by, end=self.end, pauses=self.pauses)

    def in_turn(self, slots: int) -> bool:
        """Whether so many calls at once make no more than one, so that they may be made in turn."""
        if slots == 1 or self.levels[0] != 1 or slots > self.levels[-1]:
            return False
        return self.capacity_per_s(slots, 1) < _NO_MORE * self.one_at_a_time().capacity_per_s(1, 1)

    @property
    def best_slots(self) -> int:
        """With how many calls under way most are made."""
        return max(self.levels, key=lambda k: max(self._rate(*kind) for kind in self._kinds(k)))

    def mean_ns(self, in_flight: int, size: int) -> float:
        """The mean time of a batch; between measured numbers a straight line, before them flat.

        At the low end smaller batches than any that was measured take as much less as they are
        smaller.
        """
        known = self.sizes_of(self._nearest(in_flight))
        level = {own: self._over_levels(in_flight, own) for own in known}
        less = min(size / known[0], 1.0) if self.end == "low" else 1.0
        return less * float(np.interp(size, [*level], [*level.values()]))

    def capacity_per_s(self, slots: int, max_batch: int) -> float:
        """The most requests a second that a replica makes: when more wait, batches are full."""
        most = min(slots, self.levels[-1])
        made = most * max_batch / self.mean_ns(most, max_batch) * 1e9
        return made * slots / most / self._beyond(slots)

    def _beyond(self, slots: int) -> float:
        """How much slower calls are than with as many as were measured, with more of them.

        No more is made than with those, at the high end less, and as it was if that fell; at the
        low end calls slow each other down no further.
        """
        most = self.levels[-1]
        if slots <= most or self.end == "low":
            return 1.0
        falls = 0.0
        if self.end == "high":
            before = self.levels[max(len(self.levels) - 2, 0)]
            made = [k / self._slowness(k) for k in (before, most)]
            slope = math.log(made[1] / made[0]) / math.log(most / before) if before < most else 0.0
            falls = _FALLS - min(slope, 0.0)
        return float((slots / most) ** (1 + falls))

    def replica(self, slots: int, max_batch: int = 1, delay_s: float = 0.0) -> Replica:
        """What a replica is like."""
        most = self.levels[-1]
        numbers = range(1, slots + 1)
        slow = [1.0, *(self._slowness(min(k, most)) * self._beyond(k) for k in numbers)]
        pace = 1 / np.array(slow)
        base = self._nearest(slots)
        own = self._slowness(base)
        work = np.array([0.0, *(self.mean_ns(base, b) / own for b in range(1, max_batch + 1))])
        kinds = [*self.by]
        table = np.zeros((slots + 1, max_batch + 1), np.int64)
        for k in range(1, slots + 1):
            for size in range(1, max_batch + 1):
                table[k, size] = kinds.index(self._nearest_kind(k, size))
        shapes = [values_of(np.array(self.by[kind].shape), VALUES) for kind in kinds]
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
            pauses_ns=np.array([] if self.pauses is None else self.pauses.lengths_s) * 1e9,
            slower=np.array([] if self.pauses is None else self.pauses.slower),
        )

    def factors(self, slots: int) -> Floats:
        """What requests take of the mean, by their inputs: factors of equal likelihood."""
        one = self.by[self._nearest_kind(slots, 1)]
        if len(one.factors) == 1:
            return np.ones(1)
        shares = np.cumsum(one.shares)
        place = np.searchsorted(shares / shares[-1], (np.arange(VALUES) + 0.5) / VALUES)
        return np.array(one.factors)[place]

    def calls(self, slots: int, max_batch: int) -> int:
        """How many calls say what a replica does when it is full."""
        return self.by[self._nearest_kind(slots, max_batch)].calls

    def check(self, slots: int, max_batch: int) -> list[str]:
        """What a replica does that was not measured, in words.

        Raises:
            PlanError: it is too far from what was.
        """
        most, least, notes = self.levels[-1], self.levels[0], []
        batches = f" --max-batches 1,{max_batch}" if max_batch > 1 else ""
        more = f"`inferload sweep MODEL{batches} --callers"
        if slots > BEYOND * most:
            raise PlanError(
                f"{slots} calls at once were not measured, and {count_text(most, 'call')} at most: "
                f"{more} {most},{slots}` does, or ask for {BEYOND * most} or fewer"
            )
        if slots > most:
            notes.append(
                f"more than {most} calls at once were not measured: that {slots} make no more a "
                "second is a guess; from: each takes no longer, to: they make less"
            )
        if slots > 1 and least > 1:
            notes.append(
                f"fewer than {least} calls at once were not measured, and are taken to be no "
                f"faster: {more} 1,{most}` does"
            )
        sizes = self.sizes_of(self._nearest(slots))
        if max_batch > sizes[-1]:
            clients = 2 * slots * max_batch
            raise PlanError(
                f"batches of up to {max_batch} were not measured often enough, and of {sizes[-1]} "
                f"at most: `inferload sweep MODEL --max-batches 1,{max_batch} --clients {clients} "
                f"--callers {slots}` does"
            )
        if max_batch > 1 and sizes[0] > 1:
            notes.append(
                f"batches of fewer than {sizes[0]} were not measured, and are taken to be no "
                f"faster: {more} {slots}` does"
            )
        between = [one for one in range(sizes[0], max_batch) if one not in sizes]
        if between:
            notes.append(
                f"batches of {ranges_text(between)} were not measured: they are taken to lie on a "
                "straight line between those that were"
            )
        return notes

    def _kinds(self, in_flight: int) -> list[tuple[int, int]]:
        return [kind for kind in self.by if kind[0] == in_flight]

    def _rate(self, in_flight: int, size: int) -> float:
        return in_flight * size / self.by[in_flight, size].mean_ms.value

    def sizes_of(self, in_flight: int) -> list[int]:
        """The sizes of batches that were measured with so many under way."""
        return sorted(size for _, size in self._kinds(in_flight))

    def _nearest(self, in_flight: int) -> int:
        return min(self.levels, key=lambda k: (abs(k - in_flight), k))

    def _nearest_kind(self, in_flight: int, size: int) -> tuple[int, int]:
        level = self._nearest(in_flight)
        return level, min(self.sizes_of(level), key=lambda own: abs(own - size))

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
        both = [size for size in self.sizes_of(level) if (least, size) in self.by]
        if not both:
            return 1.0
        ratios = [
            self.by[level, size].mean_ms.value / self.by[least, size].mean_ms.value for size in both
        ]
        return float(np.mean(ratios))
