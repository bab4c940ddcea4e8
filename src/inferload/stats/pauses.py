"""How much longer calls take after a pause, from a run of one caller whose calls were due."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from inferload.log.arrays import Floats, Int64s
    from inferload.log.calls import CallLog
    from inferload.records.spec import RunSpec

_FEWEST_CALLS = 100
_MOST_GROUPS = 8
_MOST_INPUTS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Pauses:
    """After pauses of ``lengths_s`` calls took ``slower`` times as long as after none.

    Both ascend together, from a run of ``calls`` calls; there are two lengths or more.
    """

    lengths_s: tuple[float, ...]
    slower: tuple[float, ...]
    calls: int

    def __post_init__(self) -> None:
        if len(self.lengths_s) != len(self.slower) or len(self.lengths_s) < 2:
            raise ValueError("pauses have two lengths or more, each with what calls take after it")
        if not all(one > 0 for one in (*self.lengths_s, *self.slower)):
            raise ValueError("lengths of pauses, and what calls take after them, are above 0")


def pauses_of_run(log: CallLog, spec: RunSpec, from_s: float) -> Pauses | None:
    """What pauses cost in a run; ``None``: it does not tell.

    It does with one caller whose calls were due at a rate: some begin right after the one before,
    and some after a pause, in the same minutes.
    """
    alone = spec.callers == 1 and spec.batching is None and not spec.servers
    if not spec.open_loop or not alone or len(spec.callers_by_lane) > 1:
        return None
    kept = log.rows(log.completed & (log.finished_ns > round(from_s * NS_PER_S)))
    order = np.argsort(kept.started_ns, kind="stable")
    started, finished = kept.started_ns[order], kept.finished_ns[order]
    due = kept.scheduled_ns[order]
    if len(started) < 2 * _FEWEST_CALLS:
        return None
    gap_ns = started[1:] - finished[:-1]
    given = kept.input[order].astype(np.int64)
    took = _alike(kept.service_ns[order].astype(np.float64), given)[1:]
    # a call that was due before the one before it had ended began as soon as the caller could
    after_none = due[1:] <= finished[:-1]
    paused = ~after_none & (gap_ns > 0)
    groups = min(int(paused.sum()) // _FEWEST_CALLS, _MOST_GROUPS)
    if after_none.sum() < _FEWEST_CALLS or groups < 2:
        return None
    by_length = np.argsort(gap_ns[paused], kind="stable")
    lengths, times = gap_ns[paused][by_length], took[paused][by_length]
    base = float(took[after_none].mean())
    return Pauses(
        lengths_s=tuple(float(np.median(one)) / 1e9 for one in np.array_split(lengths, groups)),
        slower=tuple(float(one.mean()) / base for one in np.array_split(times, groups)),
        calls=len(started),
    )


def _alike(took: Floats, given: Int64s) -> Floats:
    """Times as if all calls had had the same input."""
    if given.max(initial=0) >= _MOST_INPUTS:
        return took
    calls = np.maximum(np.bincount(given), 1)
    factors = np.bincount(given, weights=took) / calls / took.mean()
    found: Floats = took / factors[given]
    return found
