"""What is doubtful about single ranks of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferload.units import milliseconds_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from inferload.records.figures import RankFigures

# A rank that starts so much later than the others, or may have, is told of.
LATE_START_MS = 10.0


def _median_ms(one: RankFigures) -> float | None:
    """The middle of a rank's calls, however few; of what has none, the one that is quoted."""
    return one.p50_ms if one.median_ms is None else one.median_ms


def _medians_ms(ranks: Sequence[RankFigures]) -> list[float]:
    known = [_median_ms(one) for one in ranks]
    return sorted(one for one in known if one is not None)


def stragglers(ranks: Sequence[RankFigures]) -> list[RankFigures]:
    """Ranks whose calls took clearly longer than those of a typical one.

    Their median exceeds the median of the ranks' medians by a tenth, and by 5 scaled median
    absolute deviations; of an even number the lower one counts, so that two can be told apart.
    """
    medians = _medians_ms(ranks)
    if len(medians) < 2:
        return []
    middle = (len(medians) - 1) // 2
    typical = medians[middle]
    deviation = 1.4826 * sorted(abs(value - typical) for value in medians)[middle]
    limit = typical + max(0.1 * typical, 5 * deviation)
    found = [one for one in ranks if (_median_ms(one) or 0.0) > limit]
    return sorted(found, key=lambda one: _median_ms(one) or 0.0, reverse=True)


def _named(ranks: Sequence[RankFigures], what: Sequence[str]) -> str:
    """A few ranks, each with what is said of it."""
    shown = [
        f"rank {one.rank}{f' ({one.host})' if one.host else ''} {words}"
        for one, words in zip(ranks[:4], what[:4], strict=True)
    ]
    return "; ".join(shown) + (f"; and {len(ranks) - 4} more" if len(ranks) > 4 else "")


def rank_checks(ranks: Sequence[RankFigures]) -> Iterator[tuple[str, str, str]]:
    """Code, message and hint of each warning about ranks that are not like the others."""
    lost = [one for one in ranks if one.lost is not None]
    if lost:
        yield (
            "rank-lost",
            f"{_named(lost, [one.lost or '' for one in lost])}: those calls are in no figure",
            "the logs of its machine say why; torchrun's exit code -9 is a kill, often for memory",
        )
    slow = stragglers(ranks)
    if slow:
        typical = _medians_ms(ranks)
        middle = typical[(len(typical) - 1) // 2]
        few = "" if all(one.p50_ms is not None for one in slow) else "~"  # too few calls to quote
        yield (
            "straggler",
            _named(
                slow,
                [f"has a median {few}{(_median_ms(one) or 0) / middle - 1:+.0%}" for one in slow],
            )
            + f" to that of a typical rank, {few}{milliseconds_text(middle)}",
            "look at its clock, its neighbours and its warnings; inferload doctor on that machine",
        )
    late = [one for one in ranks if one.late_ms > LATE_START_MS]
    if late:
        yield (
            "rank-late",
            _named(late, [f"began {milliseconds_text(one.late_ms)} late" for one in late]),
            "it heard too late of the agreed time: a stopped process, or a network that stalls",
        )
    unsure = [one for one in ranks if one.clock_error_ms > LATE_START_MS]
    if unsure:
        yield (
            "clock-unsure",
            _named(
                unsure,
                [f"may be {milliseconds_text(one.clock_error_ms)} off" for one in unsure],
            ),
            "only when it started is unsure: durations are taken by one clock",
        )
    differing = [one for one in ranks if one.differs]
    if differing:
        yield (
            "ranks-differ",
            _named(differing, ["has " + ", ".join(one.differs) for one in differing]),
            "figures of all ranks together are of a mixture: measure like machines apart",
        )
