"""Pure data: what came of calls that answer in pieces."""

from __future__ import annotations

from dataclasses import dataclass

from inferload.records.distribution import Distribution, Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceFigures:
    """The pieces of the calls that returned in the measured part of a run.

    ``calls`` gave ``pieces``, which are so many ``tokens``; ``empty_calls`` returned without one.
    ``first_response_ms``: from when a call was due to its first piece, queue and first (TTFT);
    ``first_ms``: from when it was started. ``gap_ms``: from one piece to the next (ITL), of all
    calls or of a ``share`` of them that was drawn. ``call_gap_ms``: the mean time of a token after
    the first of its call, up to the last (TPOT). ``broken_calls`` raised after they had given
    ``broken_pieces``, which are in no other figure. Of ``cut_calls`` only the first gaps are known.
    ``sampled``: numbers are estimates from a
    sample of a long run.
    """

    calls: int
    pieces: int
    tokens: int
    empty_calls: int = 0
    pieces_per_s: Estimate
    tokens_per_s: Estimate
    first_response_ms: Distribution | None
    first_ms: Distribution | None
    gap_ms: Distribution | None
    call_gap_ms: Distribution | None
    share: float = 1.0
    broken_calls: int = 0
    cut_calls: int = 0
    broken_pieces: int = 0
    sampled: bool = False

    @property
    def mean_pieces(self) -> float:
        """How many pieces a call gives in the mean."""
        return self.pieces / self.calls if self.calls else 0.0
