"""The calls of one process or rank, as far as figures of it are wanted: at hand, or counted."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from inferload.records.distribution import QUOTED_QUANTILES
from inferload.stats.durations import CountedDurations
from inferload.stats.parts import part_of
from inferload.stats.summary import quantile_ms, value_ms
from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from inferload.log.calls import CallLog
    from inferload.records.figures import Summary
    from inferload.stats.durations import Durations

#: What is told of a part of a run.
QUANTILES_OF_PARTS = ("p50", "p99")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartQuantiles:
    """Quantiles of the response time of a part of a run, quoted by the rule of the summary.

    ``more_calls`` has those that are ``None`` for want of calls, and how many more they need.
    ``median_ms`` is the middle one however few the calls are: to find what stands out, not to be
    quoted.
    """

    p50_ms: float | None = None
    p99_ms: float | None = None
    more_calls: dict[str, int] = field(default_factory=dict)
    median_ms: float | None = None

    @classmethod
    def of(cls, durations: Durations | None) -> PartQuantiles:
        """Of the durations of calls that returned."""
        if durations is None or not durations.count:
            return cls()
        found = {
            name: quantile_ms(durations, QUOTED_QUANTILES[name]) for name in QUANTILES_OF_PARTS
        }
        values_ms = {name: None if one is None else one.value for name, (one, _) in found.items()}
        return cls(
            p50_ms=values_ms["p50"],
            p99_ms=values_ms["p99"],
            more_calls={name: more for name, (_, more) in found.items() if more},
            median_ms=value_ms(durations, 0.5),
        )

    def not_quoted(self) -> PartQuantiles:
        """Without what may be quoted."""
        return PartQuantiles(median_ms=self.median_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFigures:
    """A few figures of the calls of one process.

    ``first_ns``: when its first call began, where that was at once.
    """

    completed: int
    failed: int
    quantiles: PartQuantiles
    first_ns: int | None = None


class ProcessCalls(Protocol):
    """The calls of one process, as far as figures of it are wanted."""

    def figures(self, from_s: float) -> PartFigures:
        """Of the calls that finished after ``from_s``."""


class CallsOfLog:
    """Calls that are at hand."""

    def __init__(self, log: CallLog) -> None:
        self.log = log

    def figures(self, from_s: float) -> PartFigures:
        """Of the calls that finished after ``from_s``."""
        part = part_of(self.log, from_s)
        first_ns = None
        if not self.log.open_loop and len(self.log):
            first_ns = int(self.log.started_ns.min())
        return PartFigures(
            completed=int(part.returned_by_input.sum()),
            failed=part.failed,
            quantiles=PartQuantiles.of(part.durations("response_ns")),
            first_ns=first_ns,
        )


class CallsOfProcess:
    """Calls of one process, in a log of several; they are picked out when they are wanted."""

    def __init__(self, log: CallLog, process: int) -> None:
        self._log = log
        self._process = process

    def figures(self, from_s: float) -> PartFigures:
        """Of the calls that finished after ``from_s``."""
        own = self._log.rows(self._log.process == self._process)
        return CallsOfLog(own).figures(from_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedCalls:
    """Figures of counted calls for every window that they may be asked from on.

    Window w holds calls that finished from ``w * width_ns`` on; the quantiles are of all calls from
    that window on. ``first_ns``: when the first call began, where that was at once.
    """

    width_ns: int
    returned: tuple[int, ...]
    failed: tuple[int, ...]
    quantiles: tuple[PartQuantiles, ...]
    first_ns: int | None

    @classmethod
    def of(cls, log: CallLog) -> CountedCalls:
        """Of a counted log."""
        tally = log.tally
        if tally is None:
            raise ValueError("the calls of the log are not counted")
        name = "response_ns" if log.open_loop else "service_ns"
        windows = range(len(tally.failed))
        return cls(
            width_ns=tally.width_ns,
            returned=tuple(tally.returned_by_input.sum(axis=1).tolist()),
            failed=tuple(tally.failed.tolist()),
            quantiles=tuple(
                PartQuantiles.of(CountedDurations(tally, name, window)) for window in windows
            ),
            first_ns=None if log.open_loop or not len(log) else int(log.started_ns.min()),
        )

    def figures(self, from_s: float) -> PartFigures:
        """Of the calls that finished after ``from_s``, where a window begins."""
        first = round(from_s * NS_PER_S / self.width_ns)
        within = first < len(self.failed)
        return PartFigures(
            completed=sum(self.returned[first:]),
            failed=sum(self.failed[first:]),
            quantiles=self.quantiles[first] if within else PartQuantiles(),
            first_ns=self.first_ns,
        )


def part_figures(calls: ProcessCalls, summary: Summary) -> PartFigures:
    """The figures of a part of a run that is summed up, over the same stretch of it.

    A part that is the whole is quoted as that is. Whose calls never finished is not known of parts:
    where there are such calls, or the whole is not quoted for another reason than want of calls, no
    part is.
    """
    found, whole = calls.figures(summary.from_s), summary.response_ms
    if whole is None:
        return found
    quoted = {name: getattr(whole, name) for name in QUANTILES_OF_PARTS}
    if found.completed == summary.completed_calls:
        own = PartQuantiles(
            **{f"{name}_ms": None if one is None else one.value for name, one in quoted.items()},
            more_calls={
                name: more for name, more in whole.more_calls.items() if name in QUANTILES_OF_PARTS
            },
            median_ms=found.quantiles.median_ms,
        )
        return replace(found, quantiles=own)
    if summary.unfinished_calls or not (whole.may_be_quoted or whole.not_quoted):
        return replace(found, quantiles=found.quantiles.not_quoted())
    return found


def overloaded_processes(summary: Summary) -> set[int]:
    """The processes with a queue that grew through the run, of which nothing is quoted."""
    return set() if summary.overload is None else {one for one, _ in summary.overload.queues}
