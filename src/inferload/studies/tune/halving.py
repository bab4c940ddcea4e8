"""Successive halving: many candidates measured briefly, the best third of them for longer.

Jamieson & Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization, 2016.
Every round takes about as long: a third of the candidates, three times the time each.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.stats.limits.judging import Judgement

#: Of so many candidates one goes on to the next round, in which it is measured as much longer.
ETA = 3
# Runs shorter than this say little of anything.
SHORTEST_S = 0.2
BLOCKS, SHORTEST_OF_A_BLOCK_S = 3, 2.0


def rounds_of(count: int, full_s: float) -> tuple[tuple[int, float], ...]:
    """How many candidates each round begins with, and for how many seconds each is measured.

    What is left after the last round, one of ``ETA``, is measured for ``full_s``.

    >>> rounds_of(20, 27.0)
    ((20, 1.0), (7, 3.0), (3, 9.0))
    >>> rounds_of(1, 27.0)
    ()
    """
    counts = [count]
    while counts[-1] > 1:
        counts.append(math.ceil(counts[-1] / ETA))
    rounds = len(counts) - 1
    return tuple(
        (own, max(full_s / ETA ** (rounds - place), SHORTEST_S))
        for place, own in enumerate(counts[:-1])
    )


def blocks_of(duration_s: float) -> int:
    """In how many runs so much is measured: candidates in turn, so that a drift meets all of them.

    >>> blocks_of(1.1), blocks_of(10.0)
    (1, 3)
    """
    return BLOCKS if duration_s >= BLOCKS * SHORTEST_OF_A_BLOCK_S else 1


def rank_of(items_per_s: float, judgements: Sequence[Judgement]) -> tuple[float, float]:
    """What candidates are ordered by, the best first: limits come before throughput.

    Of those beyond a limit the nearest to it comes first.
    """
    rooms = []
    for one in judgements:
        if one.value is None:
            rooms.append(-math.inf)
        elif one.room_fraction is not None:
            rooms.append(one.room_fraction)
        else:  # no errors at all
            rooms.append(0.0 if one.value <= one.limit.bound else -math.inf)
    beyond = -min([*rooms, 0.0])
    return (beyond, -items_per_s)


def judged_within(judgements: Sequence[Judgement]) -> bool:
    """Whether no figure is beyond its limit, as far as it was measured."""
    return rank_of(0.0, judgements)[0] <= 0
