"""When a run that goes on until its figures are precise, or say enough, may stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import scipy.special  # noqa: F401 - functions of intervals import it: not in the middle of a run

from inferload.records.distribution import half_width_fraction
from inferload.records.quantiles import QUOTED_QUANTILES
from inferload.stats.intervals import calls_per_independent_one, more_calls_to_quote
from inferload.stats.limits.judging import says_enough
from inferload.stats.overload import backlog_grows
from inferload.stats.parts import part_of
from inferload.stats.summary import cut_of, judged, quantile_ms, rate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from inferload.log.calls import CallLog
    from inferload.stats.durations import Durations
    from inferload.stats.limits.limit import Limit


# An interval is asked to be narrower than it must be: it still moves with the calls that come after
# the decision to end.
SHARE = 0.9
# Fewer calls do not show how they are correlated.
FEWEST_CALLS = 400


# So many of the calls must suffice to quote the quantile: how they are correlated moves as well.
QUOTED_SHARE = 0.75


class StopRule(Protocol):
    """Ends a run early."""

    #: Not worth asking before so many calls.
    next_calls: int
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

    def enough(self, log: CallLog, finished: int) -> bool:
        """Whether the calls so far suffice."""
        self.next_calls = finished + max(finished // 10, 1)
        from_s = cut_of(judged(log)) if self._cut else 0.0
        return says_enough(log, self._limits, from_s)


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
