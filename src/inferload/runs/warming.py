"""What is said of callers that warm up: how far they have come, and that they were cut short."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from inferload.records.figures import RunWarning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.callers.crew import Crew, Observer, PartReport
    from inferload.plan.options import RunOptions

# After how long it is said how far callers have come, and how often from then on.
FIRST_LOOK_S = 2.0
LOOK_S = 5.0


class WarmUp:
    """Tells an observer how far the callers of a crew have come."""

    def __init__(self, crew: Crew, observer: Observer) -> None:
        self._crew = crew
        self._observer = observer
        callers = sum(part.place.callers for part in crew.parts)
        self._text = f"warming up {callers} caller{'s' * (callers > 1)}"
        self._began = time.monotonic()
        self._next_s = FIRST_LOOK_S
        observer.stage(self._text)

    def look(self) -> None:
        """Say it, where it is time to."""
        took_s = time.monotonic() - self._began
        if took_s < self._next_s:
            return
        self._next_s = took_s + LOOK_S
        made = self._crew.warmed()
        calls = "" if made is None else f"{made[0]:,} of {made[1]:,} calls, "
        self._observer.stage(f"{self._text}: {calls}{took_s:.0f} s")


def cut_short(
    options: RunOptions, reports: Sequence[PartReport], models: int, open_s: float
) -> list[RunWarning]:
    """That callers made fewer warm-up calls than they would have, for want of time."""
    whole = options.warmup_calls * (1 if options.lanes else max(models, 1))
    made = [calls for report in reports for calls in report.outcome.warmed]
    failed = any(report.outcome.first_failure is not None for report in reports)
    if options.warmup_limit_s is None or failed or not made or min(made) >= whole:
        return []
    each = f"{min(made)}" if min(made) == max(made) else f"{min(made)} to {max(made)}"
    return [
        RunWarning(
            code="warm-up-cut-short",
            message=(
                f"callers made {each} of {whole} warm-up calls in {open_s:.0f} s: they begin no "
                f"more than {options.warmup_limit_s:g} s after their first one"
            ),
            hint=f"--warmup {options.warmup_calls} (warmup='fixed') makes them all",
        )
    ]
