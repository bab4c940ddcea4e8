"""What is doubtful about the stages of a load: those in which the queue grew."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from inferload.runs.checks.load import HEADROOM
from inferload.units import duration_text, rate_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from inferload.records.spec import RunSpec
    from inferload.records.stages import LoadStage
    from inferload.runs.checks.findings import Texts


def overloaded_stages(spec: RunSpec, stages: Sequence[LoadStage]) -> Iterator[Texts]:
    """Stages whose calls were due faster than they were served, and the rate or callers to try."""
    behind = [(one, one.overload) for one in stages if one.overload is not None]
    if not behind:
        return
    first, found = behind[0]
    which = f"in stage {stages.index(first) + 1} of {len(spec.load_stages)} ({first.stage})"
    if len(behind) > 1:
        which = f"in {len(behind)} of {len(spec.load_stages)} stages, first {first.stage},"
    since = ""
    if first.behind_from_s is not None and first.behind_at_per_s is not None:
        when = duration_text(first.behind_from_s)
        since = f" from {when} on, at {rate_text(first.behind_at_per_s)}/s"
    share = f"{rate_text(found.served_per_s)} of {rate_text(found.asked_per_s)}"
    served = max(overload.served_per_s for _, overload in behind)
    highest = max(max(one.stage.rate_per_s, one.stage.end_per_s) for one, _ in behind)
    yield (
        "overloaded",
        (
            f"{which} the queue grew{since}: {share} due {spec.unit}s/s were served; latencies in "
            "it, and over all, say how long it lasted, and none is quoted"
        ),
        f"rates up to {rate_text(HEADROOM * served)}/s{_or_more_callers(spec, highest, served)}",
    )


def _or_more_callers(spec: RunSpec, highest: float, served: float) -> str:
    """So many callers as would serve the highest rate, with room, if they made as many calls."""
    if len(spec.callers_by_lane) > 1 or not served:
        return ""
    wanted = math.ceil(spec.callers_per_process * highest / served / HEADROOM - 1e-9)
    return f", or --callers {wanted} if so many calls can run at once"
