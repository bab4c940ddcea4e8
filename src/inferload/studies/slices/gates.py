"""Gates of a comparison by slices: crossed, kept, or not to be told by what there is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from inferload.stats.slices.judging import chance_beyond, half_width_log, holm
from inferload.studies.records.comparison import CANNOT_TELL, CROSSED, KEPT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from inferload.stats.slices.judging import SlicedRatio
    from inferload.studies.records.comparison import Gate


def _edge_log(gate: Gate) -> float:
    return math.log1p(gate.fraction)


def judged_gates(
    gates: Sequence[Gate],
    ratios: Mapping[str, SlicedRatio],
    *,
    more_fail: bool = False,
    level: Callable[[float], float] = lambda error: error,
) -> tuple[tuple[Gate, str], ...]:
    """Each gate, and what came of it: ``CROSSED``, ``KEPT`` or ``CANNOT_TELL``.

    That none is crossed which is not keeps ``ERROR`` for all gates together. None is kept by a B
    that fails more calls than A.
    """
    chances: dict[str, float] = {}
    for number, gate in enumerate(gates):
        if (one := ratios.get(gate.figure)) is not None:
            sign = -1 if gate.figure == "throughput" else 1
            beyond = chance_beyond(
                sign * math.log(one.value), one.error_log, sign * _edge_log(gate), one.pairs
            )
            chances[str(number)] = min(2 * beyond, 1.0)  # two-sided, as the interval is
    crossed = holm(chances, level)
    found: list[tuple[Gate, str]] = []
    for number, gate in enumerate(gates):
        one = ratios.get(gate.figure)
        if one is None:
            found.append((gate, CANNOT_TELL))
            continue
        edge = 1 + gate.fraction
        kept = one.low >= edge if gate.figure == "throughput" else one.high <= edge
        kept &= not more_fail
        found.append((gate, CROSSED if str(number) in crossed else KEPT if kept else CANNOT_TELL))
    return tuple(found)


def pairs_needed(gate: Gate, ratio: SlicedRatio | None, level: float) -> int | None:
    """About how many pairs of processes would decide a gate at this level; ``None``: who knows.

    As the interval gets narrower by the root of their number, and the ratio stays where it is.
    """
    if ratio is None:
        return None
    distance = abs(math.log(ratio.value) - _edge_log(gate))
    if distance == 0:
        return None
    half = half_width_log(ratio.error_log, level, ratio.pairs)
    return math.ceil(ratio.pairs * (half / distance) ** 2)
