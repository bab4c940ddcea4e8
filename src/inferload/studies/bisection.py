"""The highest rate that keeps limits: bracketed, bisected, each probe judged, the answer confirmed.

A probe goes on until its calls say at a risk of 1 % whether the limits are kept there, or until
its time is over: near the answer a figure such as p99 is uncertain for long, and a search that
takes the best of many short probes reports too much. What the bisection comes to is therefore run
once more, for longer and for nothing else, and given up for a little less where it does not hold.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from inferload.studies.probes import (
    _too_slow_alone,
    crossing,
    judged_probe,
    keeps_limits,
    says_something,
    too_little_goodput,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferload.records.result import RunResult
    from inferload.stats.limits.limit import Limit
    from inferload.studies.records.max_rate import Probe

# Shares of the time that a search may take.
CLOSED_LOOP_SHARE, PROBE_SHARE, CONFIRMATION_SHARE = 0.03, 0.08, 0.2
# The first rate that is tried, of what a closed loop makes, and where it cannot be kept at last.
FIRST_SHARE, BEYOND_SHARE = 0.7, 1.1
# Below this share of what a closed loop makes no rate is tried any more.
LEAST_SHARE = 1e-3
# Callers are mostly free below this share: what a call takes then, it takes at any lower rate.
IDLE_SHARE = 0.2
MOST_CONFIRMATIONS = 5
# Probes at a throughput that is asked for, and how many of them say that it cannot be had.
MOST_AT_FLOOR, REFUSED_AT_FLOOR = 3, 2
# A probe lasts until so many calls were due, however short its share of the time.
FEWEST_DUE = 20


class Prober(Protocol):
    """Makes the runs of a search."""

    def closed_loop(self, duration_s: float) -> float:
        """Calls per second of all callers without a pause."""

    def probe(self, rate_per_s: float, duration_s: float, seed: int, *, decide: bool) -> RunResult:
        """An open loop; with ``decide`` it ends when its calls say whether limits are kept."""

    def has_probed(self, probe: Probe) -> None:
        """Hear of a probe that was made."""


@dataclass(slots=True)
class Found:
    """Where a search stands, and what it came to."""

    rate_per_s: float | None = None
    confirmed: bool = False
    reason: str = ""
    closed_loop_per_s: float | None = None
    next_rate_per_s: float | None = None
    next_verdict: str | None = None


class RateSearch:
    """One search.

    ``resolution``: how near, as a fraction, the highest rate that is kept and the lowest that is
    not are to come. ``probes`` is filled as they are made; ``done`` are those of the same search
    before it was interrupted, which took ``spent_s`` and are not made again.
    """

    def __init__(
        self,
        prober: Prober,
        limits: Sequence[Limit],
        *,
        resolution: float = 0.01,
        time_limit_s: float = 120.0,
        seed: int = 0,
        closed_loop_per_s: float | None = None,
        done: Sequence[Probe] = (),
        spent_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._prober = prober
        floors = [one.bound for one in limits if one.figure == "throughput"]
        self._floor = floors[0] if floors else None
        self._limits = [one for one in limits if one.figure != "throughput"]
        self._resolution = resolution
        self._time_limit_s = time_limit_s
        self._seed = seed
        self._clock = clock
        self._began = clock() - spent_s
        #: Probes that were made before and are still to be gone through again.
        self.to_repeat = list(done)
        self.probes: list[Probe] = []
        self.found = Found(closed_loop_per_s=closed_loop_per_s)

    def search(self) -> Found:
        """Find the rate; what ends it early leaves ``found`` as it is."""
        found = self.found
        peak = found.closed_loop_per_s
        if peak is None:
            duration_s = max(CLOSED_LOOP_SHARE * self._time_limit_s, 0.2)
            peak = self._prober.closed_loop(duration_s)
            found.closed_loop_per_s = peak
            # loading and compiling the model is no part of the search
            self._began = max(self._began, self._clock() - duration_s)
        if peak <= 0:
            found.reason = "no call returned in a closed loop"
            return found
        if self._floor is not None and not self._keeps_floor(peak, self._floor):
            return found
        found.next_rate_per_s, found.next_verdict = BEYOND_SHARE * peak, None
        self._bracket(peak)
        if found.rate_per_s is not None:
            found.rate_per_s = self._rate_to_confirm(found.rate_per_s)
            self._confirm()
        return found

    # ---- before the answer ----

    def _keeps_floor(self, peak: float, floor: float) -> bool:
        """Whether the rate that is the least to be had keeps the limits."""
        found = self.found
        if floor > BEYOND_SHARE * peak:
            found.reason = (
                f"the throughput asked for, {floor:,.4g}/s, is more than the callers make without "
                f"a pause, {peak:,.4g}/s"
            )
            return False
        # one probe settles nothing: a stall of the machine breaks a limit, and what is thrown out
        # here is never looked at again
        refused = 0
        for _ in range(MOST_AT_FLOOR):
            probe = self._probed(floor)
            if keeps_limits(probe):
                found.rate_per_s = floor
                return True
            refused += probe.verdict != "open"
            if refused == REFUSED_AT_FLOOR:
                break
        settled = refused == REFUSED_AT_FLOOR
        found.next_rate_per_s = floor
        found.next_verdict = probe.verdict if settled else "open"
        found.reason = (
            _floor_text(floor)
            if settled
            else (
                f"whether the limits are kept at {floor:,.4g}/s was not certain in "
                f"{MOST_AT_FLOOR} probes"
            )
        )
        return False

    def _bracket(self, peak: float) -> None:
        """Narrow down the highest rate that is kept and the lowest that is not."""
        found = self.found
        while True:
            rate = self._next_rate(peak)
            if rate is None:
                found.reason = found.reason or "resolution"
                return
            if rate < LEAST_SHARE * peak:
                found.reason = "none was found down to a thousandth of what the callers can make"
                return
            over = self.left_s < 2 * CONFIRMATION_SHARE * self._time_limit_s
            if over and self.probes and not self.to_repeat:
                found.reason = "time"
                return
            probe = self._probed(rate)
            if keeps_limits(probe):
                found.rate_per_s = rate
            elif rate <= IDLE_SHARE * peak and (why := _too_slow_alone(probe)):
                found.next_rate_per_s, found.next_verdict = rate, probe.verdict
                found.reason = why
                return
            else:
                found.next_rate_per_s, found.next_verdict = rate, probe.verdict

    def _next_rate(self, peak: float) -> float | None:
        """The rate to try next; ``None`` where the two are near enough."""
        low, high = self.found.rate_per_s, self.found.next_rate_per_s
        if high is None:
            raise AssertionError("there is a rate that is not kept, found or taken for one")
        if low is None:
            return FIRST_SHARE * peak if self.found.next_verdict is None else high / 2
        if high / low - 1 > self._resolution:
            return (low + high) / 2
        if self.found.next_verdict is not None:
            return None
        # a rate that was only taken for too high: the callers make more than a closed loop said
        self.found.next_rate_per_s = 1.25 * high
        return high

    def _probed(self, rate_per_s: float) -> Probe:
        cap_s = PROBE_SHARE * self._time_limit_s
        cap_s = max(min(cap_s, max(self.left_s, 0.1 * cap_s)), FEWEST_DUE / rate_per_s)
        return self._judged(rate_per_s, cap_s, decide=True)

    def _judged(self, rate_per_s: float, duration_s: float, *, decide: bool) -> Probe:
        probe = self._done_before(rate_per_s, confirms=not decide)
        if probe is None:
            seed = self._seed + len(self.probes)
            result = self._prober.probe(rate_per_s, duration_s, seed, decide=decide)
            probe = judged_probe(
                result, rate_per_s, self._limits, confirms=not decide, floor=self._floor
            )
        self.probes.append(probe)
        self._prober.has_probed(probe)
        return probe

    def _done_before(self, rate_per_s: float, *, confirms: bool) -> Probe | None:
        """The probe that was made here before the search was interrupted."""
        if not self.to_repeat:
            return None
        found = self.to_repeat.pop(0)
        if found.confirms == confirms and math.isclose(found.rate_per_s, rate_per_s):
            return found
        self.to_repeat = []  # the search goes another way now
        return None

    @property
    def took_s(self) -> float:
        """How long the search has taken so far."""
        return self._clock() - self._began

    @property
    def left_s(self) -> float:
        """How much of the time is left."""
        return self._time_limit_s - self.took_s

    # ---- the answer ----

    def _rate_to_confirm(self, highest: float) -> float:
        """Where all probes together put the answer, between what is known of both sides.

        The highest rate that was found within the limits is, of many short probes, the luckiest.
        """
        above = self.found.next_rate_per_s or math.inf
        crossings = [crossing(self.probes, one, highest) for one in self._limits]
        known = [one for one in crossings if one is not None]
        if not known:
            return highest
        kept = [one.rate_per_s for one in self.probes if one.verdict == "kept"]
        least = max((one for one in kept if one < above), default=0.0)
        return max(min(*known, above / (1 + self._resolution)), least, self._floor or 0.0)

    def _confirm(self) -> None:
        """Run the answer once more; where it does not hold, a little less."""
        found = self.found
        least_s = CONFIRMATION_SHARE * self._time_limit_s / 2
        for _ in range(MOST_CONFIRMATIONS):
            rate = found.rate_per_s
            if rate is None:
                return
            # half of what is left, so that there is time for another
            duration_s = max(self.left_s / 2, least_s, FEWEST_DUE / rate)
            probe = self._judged(rate, duration_s, decide=False)
            if keeps_limits(probe):
                found.confirmed = says_something(probe)
                if (why := too_little_goodput(probe)) is not None:
                    found.rate_per_s, found.confirmed, found.reason = None, False, why
                return
            found.next_rate_per_s, found.next_verdict = rate, probe.verdict
            # what the run that failed says counts as well
            lower = min(rate / (1 + 2 * self._resolution), self._rate_to_confirm(rate))
            if self._floor is not None and lower < self._floor:
                if probe.verdict != "open":
                    found.rate_per_s, found.reason = None, _floor_text(self._floor)
                return
            if self.left_s < least_s and not self.to_repeat:
                return
            found.rate_per_s = lower


def _floor_text(floor: float) -> str:
    return f"the limits are not kept at the throughput asked for, {floor:,.4g}/s"
