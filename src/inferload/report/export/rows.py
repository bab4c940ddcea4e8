"""Which calls an export has, where it has not all."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inferload.log.calls import CallLog


def sample_note(log: CallLog) -> str | None:
    """A sentence if the rows of a log are only a sample of its calls."""
    if log.tally is None:
        return None
    return f"the log has a uniform sample of {len(log):,} of {log.tally.calls:,} calls"
