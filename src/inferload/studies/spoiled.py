"""What makes runs of a study doubtful, said once for all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.records.figures import RunWarning
    from inferload.studies.records.settings import StudyRun

#: Warnings of a run that make what is concluded from it doubtful.
CODES = {
    "unsteady", "overloaded", "unfinished", "failed-calls", "steal", "throttled", "gpu-throttled",
    "recompiled", "outputs-differ",
}  # fmt: skip


def spoiled(runs: Sequence[StudyRun]) -> tuple[RunWarning, ...]:
    """A warning for each kind that any of the runs has, with how many of them."""
    found: dict[str, list[RunWarning]] = {}
    for run in runs:
        for one in {one.code: one for one in run.warnings if one.code in CODES}.values():
            found.setdefault(one.code, []).append(one)
    return tuple(
        replace(own[0], message=f"in {len(own)} of {len(runs)} runs: {own[0].message}")
        for own in found.values()
    )
