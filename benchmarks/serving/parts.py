"""What the parts share: how long each measures, and rows of peers that may be missing."""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from measuring import Row, rates_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serving.peers import Told


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How many rounds, and by how much each is shorter than in a whole measurement."""

    rounds: int
    quick: bool

    def seconds(self, whole: int) -> int:
        """Of a run."""
        return max(whole // 4, 2) if self.quick else whole


def say(text: str) -> None:
    """Something of how far it is."""
    print(text, file=sys.stderr, flush=True)


def missing(measure: str, ours: str, told: Sequence[Told]) -> Row | None:
    """A row in place of a comparison, where a tool said nothing in any of the rounds."""
    why = next((one.why for one in told if one.why), None)
    if why is None:
        return None
    return Row(measure=measure, ours=ours, reference=why, figure="", spread="", reach="-")


def against(measure: str, mine: Sequence[Told], its: Sequence[Told], reach: str) -> Row:
    """Requests a second against those of another."""
    own = [one.per_s for one in mine]
    none = missing(measure, f"{statistics.median(own):,.0f}/s", its)
    return none or rates_row(measure, own, [one.per_s for one in its], reach)


def beyond(measure: str, ours: str, reference: str, differences: list[float], reach: str) -> Row:
    """A difference in milliseconds, round by round."""
    return Row(
        measure=measure,
        ours=ours,
        reference=reference,
        figure=f"{statistics.median(differences):+.2f} ms",
        spread=f"{min(differences):+.2f} to {max(differences):+.2f}",
        reach=reach,
    )
