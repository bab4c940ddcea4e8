"""When a run that goes on until its figures are precise, or say enough, may stop."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Protocol

import numpy as np
import scipy.special  # noqa: F401 - functions of intervals import it: not in the middle of a run

from inferload.records.distribution import QUOTED_QUANTILES, half_width_fraction
from inferload.stats.intervals import calls_per_independent_one, more_calls_to_quote
from inferload.stats.limits.judging import RISK_OF_A_LOOK, judged_limits, says_enough
from inferload.stats.load_stages import judged_in_stages
from inferload.stats.parts import part_of
from inferload.stats.steadiness.overload import backlog_grows
from inferload.stats.summary import cut_of, judged, quantile_ms, rate
from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from inferload.log.calls import CallLog
    from inferload.records.stages import Stage
    from inferload.stats.durations import Durations
    from inferload.stats.limits.judging import Judgement
    from inferload.stats.limits.limit import Limit


# An interval is asked to be narrower than it must be: it still moves with the calls that come after
# the decision to end.
SHARE = 0.9
# Fewer calls do not show how they are correlated.
FEWEST_CALLS = 400
# Of slow calls, by which a run has lasted so long, so many do: how they are correlated is unknown,
# and so each is taken for a fifth of an independent one.
FEWEST_SLOW_CALLS, SLOW_S, WORTH = 50, 5.0, 5
# A limit of the error fraction goes by the exact bounds of however few.
FEWEST_FOR_ERRORS = 50

# So many of the calls must suffice to quote the quantile: how they are correlated moves as well.
QUOTED_SHARE = 0.75


class StopRule(Protocol):
    """Ends a run early."""

    @property
    def next_calls(self) -> int:
        """Not worth asking before so many calls."""

    @property
    def at_once(self) -> bool:
        """Whether the run ends without what is queued, and not when that is done."""

    #: When the calls sufficed: half of the interval of each figure that was asked for, as a
    #: fraction of it. The calls that come in after that are in no such figure.
    widths: Mapping[str, float]

    def enough(self, log: CallLog, finished: int) -> bool:
        """Whether the calls so far suffice."""


class StopByLimits:
    """Stop when calls say whether limits are kept, or pile up so that they cannot be.

    They are looked at no more often than every 10 % of the calls so far.
    """

    def __init__(self, limits: Sequence[Limit], *, cut: bool) -> None:
        self._limits = limits
        self._cut = cut
        #: Not worth asking before so many calls.
        self.next_calls = FEWEST_CALLS
        self.widths: Mapping[str, float] = {}
        self.at_once = False

    def enough(self, log: CallLog, finished: int) -> bool:
        """Whether the calls so far suffice."""
        self.next_calls = finished + max(finished // 10, 1)
        from_s = cut_of(judged(log)) if self._cut else 0.0
        return says_enough(log, self._limits, from_s)


def _risk(*, few: bool) -> float:
    """That of one look; as if calls were fewer where they are few."""
    return RISK_OF_A_LOOK**WORTH if few else RISK_OF_A_LOOK


class StopAtBroken:
    """Stop when a limit is broken, or when another rule says enough.

    Each look is at a tenth of the risk of one verdict, as those of a search are. Calls of a load in
    stages are judged by those of their stage, where they are enough. Throughput and goodput are
    judged in the end: they are of the whole run, and so are gaps, which callers keep until then.
    """

    def __init__(
        self,
        limits: Sequence[Limit],
        *,
        cut: bool,
        stages: Sequence[Stage] = (),
        other: StopRule | None = None,
    ) -> None:
        self._limits = [one for one in limits if not one.at_least]
        self._cut = cut
        self._stages = stages
        self._ends_s = list(accumulate(one.duration_s for one in stages))
        self._other = other
        self._next = FEWEST_FOR_ERRORS
        self._stage = 0
        self.widths: Mapping[str, float] = {}
        #: By the text of a limit: when it was found broken, and the number of the stage, from 1.
        self.broken: dict[str, tuple[float, int | None]] = {}

    @property
    def next_calls(self) -> int:
        """Not worth asking before so many calls."""
        return self._next if self._other is None else min(self._next, self._other.next_calls)

    @property
    def at_once(self) -> bool:
        """Whether a limit is broken: how long queued calls wait is no news."""
        return bool(self.broken)

    def enough(self, log: CallLog, finished: int) -> bool:
        """Whether a limit is broken, or the other rule has enough."""
        if finished >= self._next:
            self._next = finished + max(finished // 10, 1)
            self._look(log)
        if self._other is not None and finished >= self._other.next_calls and not self.broken:
            enough = self._other.enough(log, finished)
            self.widths = self._other.widths
            return enough
        return bool(self.broken)

    def _look(self, log: CallLog) -> None:
        now_s = float(log.finished_ns.max(initial=0)) / NS_PER_S
        if not self._stages:
            from_s = cut_of(judged(log)) if self._cut else 0.0
            for few in (False, True):
                asked = self._worth_asking(log, few=few)
                self._note(judged_limits(log, asked, from_s, risk=_risk(few=few)), now_s, None)
            return
        # those in which calls may have finished since the last look
        first, last = self._stage, int(np.searchsorted(self._ends_s, now_s)) + 1
        stages = self._stages[:last]
        for few in (False, True):
            for number, own, found in judged_in_stages(
                log, self._limits, stages, risk=_risk(few=few), first=first
            ):
                asked = self._worth_asking(own, few=few)
                self._note([one for one in found if one.limit in asked], now_s, number)
        self._stage = last - 1

    def _worth_asking(self, log: CallLog, *, few: bool) -> list[Limit]:
        """Of enough calls all limits, of ``few`` that took their time those of durations."""
        if len(log) >= FEWEST_CALLS:
            return [] if few else self._limits
        span_ns = np.ptp(log.finished_ns) if len(log) >= FEWEST_SLOW_CALLS else 0
        if few:
            slow = span_ns >= SLOW_S * NS_PER_S
            return [one for one in self._limits if one.quantile is not None and slow]
        return [one for one in self._limits if one.figure == "errors"]

    def _note(self, found: Sequence[Judgement], now_s: float, stage: int | None) -> None:
        for one in found:
            if one.verdict == "broken":
                self.broken.setdefault(one.limit.written, (now_s, stage))


class StopByPrecision:
    """Stop when the intervals of one quantile and of throughput are narrow enough.

    Half of an interval must be within nine tenths of ``precision`` (a fraction) of its value, on
    the steady part of the run if ``cut`` is set. The intervals are looked at no more often than
    every 10 % of the calls so far.
    """

    def __init__(self, precision: float, quantile: str, *, cut: bool) -> None:
        self._precision = precision
        self._name = quantile
        self._q = QUOTED_QUANTILES[quantile]
        self._cut = cut
        #: Not worth asking before so many calls.
        self.next_calls = more_calls_to_quote(0, self._q, 1.0)
        self.at_once = False
        self.widths: Mapping[str, float] = {}

    def enough(self, log: CallLog, finished: int) -> bool:
        """Whether the calls so far suffice."""
        self.next_calls = finished + max(finished // 10, 1)
        from_s = cut_of(judged(log)) if self._cut else 0.0
        if backlog_grows(log, from_s):
            return False  # nothing is quoted of a queue that grows
        part = part_of(log, from_s)
        durations = part.durations("response_ns")
        if durations is None:
            return False
        quantile, _ = quantile_ms(durations, self._q)
        count = int(part.returned_by_input.sum())
        calls_per_s = rate(count, part.duration_s, part.returned_by_window)
        if quantile is None or not self._surely_quoted(durations, quantile.value):
            return False
        found = {self._name: quantile, "throughput": calls_per_s}
        widths = {name: half_width_fraction(one) for name, one in found.items()}
        enough = {
            name: width
            for name, width in widths.items()
            if width is not None and width <= SHARE * self._precision
        }
        if enough.keys() != widths.keys():
            return False
        self.widths = enough
        return True

    def _surely_quoted(self, durations: Durations, value_ms: float) -> bool:
        """Whether the quantile will still be quoted when the last calls have come in."""
        tau = calls_per_independent_one(*durations.exceeding(value_ms), self._q)
        return not more_calls_to_quote(int(QUOTED_SHARE * durations.count), self._q, tau)
