"""Pure data: the file in which calls of a live model were recorded, as a load replays it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A file of ``inferload.capture``, replayed ``speed`` times as fast.

    It has ``kept`` calls of the ``seen`` ones: all of them, or a sample.
    """

    path: str
    kept: int
    seen: int
    speed: float = 1.0
