"""The calls of one process or rank, as far as figures of it are wanted: at hand, or counted."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import numpy as np

from inferload import hdr
from inferload.distribution import quantile_rank
from inferload.intervals import more_calls_to_quote
from inferload.samples import part_of
from inferload.units import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from inferload.call_log import CallLog


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFigures:
    """A few figures of the calls of one process; ``None`` where its calls do not carry them.

    ``first_ns``: when its first call began, where that was at once.
    """

    completed: int
    failed: int
    p50_ms: float | None
    p99_ms: float | None
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
        durations = part.durations("response_ns")
        quantiles: list[float | None] = [None, None]
        if durations is not None:
            ranks = [quantile_rank(q, durations.count) for q in (0.5, 0.99)]
            quantiles = [durations.value_of_rank_ms(rank) for rank in ranks]
            if more_calls_to_quote(durations.count, 0.99, 1.0):
                quantiles[1] = None
        first_ns = None
        if not self.log.open_loop and len(self.log):
            first_ns = int(self.log.started_ns.min())
        return PartFigures(
            completed=int(part.returned_by_input.sum()),
            failed=part.failed,
            p50_ms=quantiles[0],
            p99_ms=quantiles[1],
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
    p50_ms: tuple[float | None, ...]
    p99_ms: tuple[float | None, ...]
    first_ns: int | None

    @classmethod
    def of(cls, log: CallLog) -> CountedCalls:
        """Of a counted log."""
        tally = log.tally
        if tally is None:
            raise ValueError("the calls of the log are not counted")
        counts = tally.counts["response_ns" if log.open_loop else "service_ns"]
        windows = len(tally.failed)
        so_far = np.zeros(hdr.BUCKETS, np.int64)
        edges = np.searchsorted(counts.cells, np.arange(windows + 1) * hdr.BUCKETS)
        quantiles: list[tuple[float | None, float | None]] = []
        for begin, end in reversed([*pairwise(edges)]):
            so_far[counts.cells[begin:end] % hdr.BUCKETS] += counts.counts[begin:end]
            total = int(so_far.sum())
            ranks = [quantile_rank(q, total) for q in (0.5, 0.99)]
            found = [hdr.value_of_rank(so_far, rank) / NS_PER_MS for rank in ranks]
            few = more_calls_to_quote(total, 0.99, 1.0) > 0
            quantiles.append((found[0], None if few else found[1]) if total else (None, None))
        p50, p99 = zip(*reversed(quantiles), strict=True)
        return cls(
            width_ns=tally.width_ns,
            returned=tuple(tally.returned_by_input.sum(axis=1).tolist()),
            failed=tuple(tally.failed.tolist()),
            p50_ms=p50,
            p99_ms=p99,
            first_ns=None if log.open_loop or not len(log) else int(log.started_ns.min()),
        )

    def figures(self, from_s: float) -> PartFigures:
        """Of the calls that finished after ``from_s``, where a window begins."""
        first = round(from_s * NS_PER_S / self.width_ns)
        within = first < len(self.failed)
        return PartFigures(
            completed=sum(self.returned[first:]),
            failed=sum(self.failed[first:]),
            p50_ms=self.p50_ms[first] if within else None,
            p99_ms=self.p99_ms[first] if within else None,
            first_ns=self.first_ns,
        )
