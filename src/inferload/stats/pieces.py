"""Figures of calls that answer in pieces, from a call log."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from inferload.records.pieces import PieceFigures
from inferload.stats.durations import RawDurations
from inferload.stats.intervals import BATCHES
from inferload.stats.parts import part_of
from inferload.stats.summary import distribution_ms, rate
from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from inferload.log.arrays import Int64s
    from inferload.log.calls import CallLog
    from inferload.records.distribution import Distribution, Estimate
    from inferload.records.figures import Summary
    from inferload.stats.durations import Durations


def piece_figures(log: CallLog, summary: Summary) -> PieceFigures | None:
    """The figures of pieces; ``None`` where no call answered in pieces.

    Of a counted log durations are of all calls, numbers are estimated from the sample.
    """
    if not log.answers or not bool((log.pieces >= 0).any()):
        return None
    from_ns = round(summary.from_s * NS_PER_S)
    own = log.rows((log.finished_ns > from_ns) & (log.pieces >= 0))
    one_in = 1 if log.tally is None else log.tally.sampled_one_in
    broken = ~own.completed & (own.pieces > 0)
    kept = own.rows(own.completed)
    pieces = kept.pieces.astype(np.int64)
    tokens = kept.answers["tokens"].astype(np.int64)
    part = part_of(log, summary.from_s)
    why = None if summary.overload is None else "overloaded"
    times = log.piece_times
    return PieceFigures(
        calls=int(np.count_nonzero(pieces)) * one_in,
        empty_calls=int(np.count_nonzero(pieces == 0)) * one_in,
        pieces=int(pieces.sum()) * one_in,
        tokens=int(tokens.sum()) * one_in,
        pieces_per_s=_rate(kept, pieces, one_in, summary),
        tokens_per_s=_rate(kept, tokens, one_in, summary),
        first_response_ms=distribution_ms(
            part.stage("first_response_ns"), summary.unfinished_calls, not_quoted=why
        ),
        first_ms=distribution_ms(part.stage("first_piece_ns")),
        gap_ms=gap_distribution(log, summary.from_s),
        call_gap_ms=distribution_ms(part.stage("call_gap_ns")),
        share=1.0 if times is None else times.share,
        cut_calls=0 if times is None else times.cut_calls,
        broken_calls=int(np.count_nonzero(broken)) * one_in,
        broken_pieces=int(own.pieces[broken].sum()) * one_in,
        sampled=one_in > 1,
    )


def gaps(log: CallLog, from_s: float = 0.0) -> Durations | None:
    """The times between pieces, of the calls whose pieces were kept, from a time on."""
    if log.piece_times is None:
        return None
    found = log.piece_times.gaps_ns(round(from_s * NS_PER_S))
    return RawDurations.of(found) if len(found) else None


def gap_distribution(log: CallLog, from_s: float) -> Distribution | None:
    """The distribution of single gaps; what quantiles still need is in calls, not in gaps."""
    found, times = distribution_ms(gaps(log, from_s)), log.piece_times
    if found is None or times is None or not found.more_calls:
        return found
    of_a_call = max(found.count / max(len(times.calls), 1), 1e-9)
    more = {name: math.ceil(n / of_a_call / times.share) for name, n in found.more_calls.items()}
    return replace(found, more_calls=more)


def _rate(kept: CallLog, each: Int64s, one_in: int, summary: Summary) -> Estimate:
    """So many a second, as of windows of equal length in which calls returned."""
    from_ns = round(summary.from_s * NS_PER_S)
    edges = np.linspace(from_ns, from_ns + summary.duration_s * NS_PER_S, BATCHES + 1)[1:-1]
    window = np.searchsorted(edges, kept.finished_ns)
    by_window = np.bincount(window, each, BATCHES).astype(np.int64)
    return rate(int(each.sum()) * one_in, summary.duration_s, by_window * one_in)
