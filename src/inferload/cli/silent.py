"""Who is told how a run or a study goes on, and shows nothing."""

from __future__ import annotations


class Silent:
    """An observer of runs and studies who says nothing."""

    def stage(self, text: str) -> None:
        """Nothing."""

    def progress(self, finished_calls: int, elapsed_s: float) -> None:
        """Nothing."""

    def begins(self, text: str) -> None:
        """Nothing."""

    def found(self, text: str) -> None:
        """Nothing."""
