"""When the calls of an open loop are due, and which model each of them is of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inferload.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from inferload.log.arrays import Int32s, Int64s

# The shares of models are met within one call in each stretch of so many calls.
STRATA = 64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Schedule:
    """When each call of a run is due.

    Call i is due ``times_ns[i % n] + (i // n) * period_ns`` after the start line; ``times_ns`` are
    int64, ascending, of shape ``(n,)``. ``calls`` are due in all, in the ``span_ns`` from the start
    line on: that is the time that was asked for, or when the call after the last would be due. So
    many calls in that time are their rate without a bias: of Poisson arrivals, n calls until the
    next one have the rate as their mean, and evenly spaced ones exactly. ``in_turn``: distances are
    regular, though they change, and stay so where calls are dealt in turn. ``rows``: of times that
    were recorded with their inputs the number of each, int32 of the same shape.
    """

    times_ns: Int64s
    period_ns: int
    calls: int
    span_ns: int
    in_turn: bool = False
    rows: Int32s | None = None

    def due_ns(self, row: int) -> int:
        """When one call is due, from the start line."""
        turn, place = divmod(row, len(self.times_ns))
        return int(self.times_ns[place]) + turn * self.period_ns

    def due_by(self, time_ns: int) -> int:
        """How many calls are due at or before a time."""
        since_first = time_ns - int(self.times_ns[0])
        turn = 0 if self.calls <= len(self.times_ns) else max(since_first // self.period_ns, 0)
        place = int(np.searchsorted(self.times_ns, time_ns - turn * self.period_ns, side="right"))
        return min(turn * len(self.times_ns) + place, self.calls)

    @property
    def end_ns(self) -> int:
        """When the last call is due."""
        return self.due_ns(self.calls - 1)

    def last_start_ns(self, drain_ns: int) -> int:
        """Until when calls may begin that have queued, and are waited for, from the start line.

        That is ``drain_ns`` after the last one was due, and not before the next one would be.
        """
        return max(self.end_ns + drain_ns, self.span_ns)

    def dealt(self, processes: int, seed: int) -> list[Schedule]:
        """The calls dealt to so many processes; all of them together are these again.

        Each call goes to one of them at random, so that independent arrivals stay independent in
        every process (a Poisson process thinned at random is one). Calls at even distances, or at
        such as change evenly, are dealt in turn, and so stay even.

        Raises:
            PlanError: there are fewer calls than processes.
        """
        if processes == 1:
            return [self]
        if self.calls < processes:
            raise PlanError(
                f"{self.calls:,} calls cannot be dealt to {processes} processes: ask for more "
                "calls, or fewer processes"
            )
        size = len(self.times_ns)
        owner = np.arange(size) % processes
        if not (self.in_turn or self._even):
            drawn = np.random.default_rng([seed, processes]).integers(processes, size=size)
            # so few calls that some process would get none are dealt in turn
            owner = drawn if len(np.unique(drawn[: self.calls])) == processes else owner
        return self.divided(owner, processes)

    def divided(self, owner: NDArray[np.integer], owners: int) -> list[Schedule]:
        """The calls of each owner; ``owner`` says whose each of the ``times_ns`` is."""
        turns, rest = divmod(self.calls, len(self.times_ns))
        of_turn = np.bincount(owner, minlength=owners)
        of_rest = np.bincount(owner[:rest], minlength=owners)
        order = np.argsort(owner, kind="stable")
        ends = np.cumsum(of_turn)
        return [
            Schedule(
                times_ns=self.times_ns[order[end - own : end]],
                period_ns=self.period_ns,
                calls=int(turns * own + rest_of_it),
                span_ns=self.span_ns,
                rows=None if self.rows is None else self.rows[order[end - own : end]],
            )
            for end, own, rest_of_it in zip(ends, of_turn, of_rest, strict=True)
        ]

    @property
    def _even(self) -> bool:
        between = np.diff(self.times_ns)
        return len(between) == 0 or int(between.max() - between.min()) <= 1


def models_drawn(weights: Sequence[float], calls: int, seed: Sequence[int]) -> Int32s:
    """Which model each call is for, drawn by weight; at least ``calls`` of them.

    They are drawn from strata, 64 calls at a time: the shares are met within one call in each such
    stretch, and a rare model has its chance in every one.
    """
    generator = np.random.default_rng([*seed, 0])
    stretches = -(-calls // STRATA)
    places = (np.arange(STRATA) + generator.random((stretches, STRATA))) / STRATA
    drawn = generator.permuted(places, axis=1).ravel()
    edges = np.cumsum(np.asarray(weights) / sum(weights))
    found = np.minimum(np.searchsorted(edges, drawn, side="right"), len(edges) - 1)
    return found.astype(np.int32)
