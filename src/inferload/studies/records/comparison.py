"""What a comparison is told as."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from inferload.records.distribution import Estimate
from inferload.records.figures import RunWarning
from inferload.records.shown import Shown
from inferload.stats.pairs import NEGLIGIBLE_FRACTION
from inferload.studies.records.settings import StudyRun
from inferload.studies.records.slices import SlicedPair, Timing

#: What comes of a gate.
KEPT, CROSSED, CANNOT_TELL = "kept", "crossed", "cannot tell"


def value_of(estimate: Estimate | None) -> float:
    """The estimate; 0 where there is none."""
    return 0.0 if estimate is None else estimate.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One figure of B over that of A, with its 95 % interval; ``None`` where it has none.

    ``detectable_fraction``: the smallest change for the worse that would have been found in four
    of five cases, of slices in nine of ten. ``pairs`` alternated; ``None``: two runs, each with its
    own interval. ``p_signed_rank``: of the pairs, the chance of it between equals by Wilcoxon's
    test, which one disturbed run moves less. ``claimed``: of slices, whether it is claimed, with
    all figures of the comparison held together; their ``pairs`` are of processes.
    """

    figure: str
    a: float
    b: float
    ratio: float
    low: float | None
    high: float | None
    detectable_fraction: float | None
    pairs: int | None = None
    p_signed_rank: float | None = None
    claimed: bool | None = None

    @property
    def verdict(self) -> str:
        """``"faster"``, ``"slower"`` (of B) or ``"no difference found"``.

        A difference is claimed if the interval excludes equality, and the ratio is more than 1 %
        from it; of slices also only if it is ``claimed``.
        """
        if self.claimed is False:
            return "no difference found"
        if self.low is None or self.high is None or self.low <= 1 <= self.high:
            return "no difference found"
        if abs(self.ratio - 1) <= NEGLIGIBLE_FRACTION:
            return "no difference found"
        return "faster" if (self.ratio > 1) == (self.figure == "throughput") else "slower"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """How much worse a figure of B may be than A's: +0.05 of a quantile, -0.03 of throughput."""

    figure: str
    fraction: float

    def __str__(self) -> str:
        name = {"p999": "p99.9", "p9999": "p99.99"}.get(self.figure, self.figure)
        return f"{name} {100 * self.fraction:+.3g}%"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison(Shown):
    """B against A: two saved results, or runs of both that alternated.

    ``gates`` pairs each gate with ``"kept"``, ``"crossed"`` (beyond noise, with the whole interval)
    or ``"cannot tell"`` (the interval has parts on both sides, or the figure was not quoted).
    ``unlike``: what else is different between the two, such as the machine or the number of
    callers. ``runs`` are A's and B's in the order they were made, in ``sides``. ``outputs`` says
    whether both compute the same, by ``torch.testing``'s tolerances; empty of saved results.
    ``failed_fractions``: how many of the calls of A and of B failed. Where more of B's do, beyond
    chance (``more_fail``; ``None``: where more did), no gate is kept. ``peaks``: of one side behind
    a server and an open loop, runs of both in a closed loop of as many callers, in ``peak_sides``.
    ``slices``: pairs of processes that were called by slices in turn, where ``runs`` say of what
    run they are; ``why_runs``: why whole runs alternated. ``ended``: why a comparison by slices was
    not longer, ``needs_s``: about how long one would be that decides all gates, ``timing``: how its
    time was spent.
    """

    a: str
    b: str
    asked: dict[str, Any]
    status: str
    differences: tuple[Difference, ...]
    gates: tuple[tuple[Gate, str], ...]
    unlike: tuple[str, ...]
    sides: tuple[str, ...]
    runs: tuple[StudyRun, ...]
    outputs: str = ""
    outputs_alike: bool = True
    failed_fractions: tuple[float, float] = (0.0, 0.0)
    more_fail: bool | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    made_by: str | None = None
    warnings: tuple[RunWarning, ...] = ()
    peaks: tuple[StudyRun, ...] = ()
    peak_sides: tuple[str, ...] = ()
    slices: tuple[SlicedPair, ...] = ()
    why_runs: str = ""
    ended: str = ""
    needs_s: float | None = None
    timing: Timing | None = None

    @property
    def served(self) -> str | None:
        """Which side is behind a server, where the other one is not: ``"a"`` or ``"b"``."""
        found = {
            side
            for side, run in zip(self.sides, self.runs, strict=True)
            if run.spec is not None and run.spec.servers
        }
        return found.pop() if len(found) == 1 else None

    def peaks_per_s(self, side: str) -> list[float]:
        """The calls per second of each closed-loop run of a side."""
        return [
            run.summary.throughput_calls_per_s.value
            for one, run in zip(self.peak_sides, self.peaks, strict=True)
            if one == side and run.summary is not None
        ]

    @property
    def is_of_results(self) -> bool:
        """Whether two saved results were compared, and nothing was run."""
        return "results" in self.asked

    @property
    def fails_more(self) -> bool:
        """Whether more of B's calls fail than of A's, beyond chance."""
        a, b = self.failed_fractions
        return b > a if self.more_fail is None else self.more_fail

    @property
    def crossed(self) -> tuple[Gate, ...]:
        """The gates that were crossed."""
        return tuple(gate for gate, what in self.gates if what == CROSSED)

    @property
    def untold(self) -> tuple[Gate, ...]:
        """The gates of which nothing could be said."""
        return tuple(gate for gate, what in self.gates if what == CANNOT_TELL)
