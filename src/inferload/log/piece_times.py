"""When each piece of an answer came, of a sample of the calls that answer in pieces."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from inferload.log.arrays import Int64s

# So many times of pieces are kept of a run (2 MB): of more a sample of the calls.
MOST_TIMES = 262_144
# Of one call the first so many.
MOST_OF_A_CALL = 16_384
#: What is kept of a call beside its times.
CALLS_DTYPE = np.dtype(
    [
        ("caller", "<i4"), ("input", "<i4"), ("started_ns", "<i8"), ("pieces", "<i8"),
        ("returned", "?"), ("drawn", "<f8"),
    ]
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PieceTimes:
    """When each piece of some calls came.

    ``calls``, of ``CALLS_DTYPE`` and shape ``(calls,)``: the caller and the input of each, when it
    started, how many pieces are kept of it (the first ones), whether it returned, and a number
    drawn from [0, 1): those of all calls whose number is below ``share`` are here. ``times_ns``,
    int64, are those of the pieces of one call after another, on the clock of ``started_ns``.
    """

    calls: NDArray[Any]
    times_ns: Int64s
    share: float = 1.0

    def __post_init__(self) -> None:
        pieces = self.calls["pieces"]
        if (pieces < 0).any() or int(pieces.sum()) != len(self.times_ns):
            raise ValueError("pieces are not those of the calls")

    def since(self, start_ns: int) -> PieceTimes:
        """With times counted from a start line."""
        calls = self.calls.copy()
        calls["started_ns"] -= start_ns
        return replace(self, calls=calls, times_ns=self.times_ns - start_ns)

    @property
    def cut_calls(self) -> int:
        """Of how many calls only the first pieces are here."""
        return int(np.count_nonzero(self.calls["pieces"] >= MOST_OF_A_CALL))

    @property
    def call_of_piece(self) -> Int64s:
        """The place of the call that each of the times belongs to."""
        return np.repeat(np.arange(len(self.calls)), self.calls["pieces"])

    def gaps_ns(self, from_ns: int = 0) -> Int64s:
        """The times between two pieces of calls that returned, in the order in which they ended.

        Of those that ended after ``from_ns``.
        """
        call = self.call_of_piece
        if len(call) < 2:
            return np.empty(0, np.int64)
        gaps, ends = np.diff(self.times_ns), self.times_ns[1:]
        own = (call[1:] == call[:-1]) & self.calls["returned"][call[1:]] & (ends > from_ns)
        found: Int64s = gaps[own][np.argsort(ends[own], kind="stable")]
        return found

    def thinned(self, share: float) -> PieceTimes:
        """A smaller share of all calls, which are all of these in it."""
        kept = self.calls["drawn"] < share
        return PieceTimes(
            calls=self.calls[kept],
            times_ns=self.times_ns[kept[self.call_of_piece]],
            share=min(share, self.share),
        )


def joined(several: Sequence[PieceTimes], most: int = MOST_TIMES) -> PieceTimes | None:
    """Those of several callers, processes or machines: the same share of the calls of each."""
    if not several:
        return None
    share = min(one.share for one in several)
    while True:
        parts = [one.thinned(share) for one in several]
        if sum(len(one.times_ns) for one in parts) <= most:
            break
        share /= 2
    return PieceTimes(
        calls=np.concatenate([one.calls for one in parts]),
        times_ns=np.concatenate([one.times_ns for one in parts]),
        share=share,
    )
