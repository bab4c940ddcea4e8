"""What is kept of a pair of processes whose models were called by slices."""

from __future__ import annotations

from dataclasses import dataclass

from inferload.stats.slices.ratios import PairFigure


@dataclass(frozen=True, slots=True, kw_only=True)
class SlicedPair:
    """Two fresh processes, one for each side, that were called in turn.

    ``order``: which side was called first in each pair of slices, such as ``"abba"``. ``a_per_s``
    and ``b_per_s``: items per second of each slice. ``cores``: those that both sides' callers were
    held to; none: any. ``took_s``: with starting the processes.
    """

    order: str
    slice_s: float
    a_per_s: tuple[float, ...]
    b_per_s: tuple[float, ...]
    figures: tuple[PairFigure, ...]
    calls: tuple[int, int]
    failed: tuple[int, int] = (0, 0)
    cores: tuple[int, ...] = ()
    took_s: float = 0.0

    def figure(self, name: str) -> PairFigure | None:
        """The figure of this name, where there were calls enough for it."""
        return next((one for one in self.figures if one.figure == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How the time is spent: slices in each pair of processes, and how many of these."""

    slice_s: float
    slices: int
    pairs: int
    looks: tuple[int, ...]
