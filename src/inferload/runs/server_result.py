"""What all processes of a run saw of the servers that were asked, as one."""

from __future__ import annotations

from dataclasses import replace
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

from inferload.records.server import ServerFigures, ServerSeen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.callers.crew import PartReport
    from inferload.records.server import ServerSpec
    from inferload.runs.execution import Execution


class ServerCounts:
    """What the servers of a run count themselves; nothing of a run without any."""

    def __init__(self, specs: Sequence[ServerSpec]) -> None:
        self._count = None
        if specs:
            # a run without servers does without the packages that they are spoken to by
            from inferload.targets.remote.said.reading import ServersCount

            self._count = ServersCount(specs)

    def note_before(self) -> None:
        """All callers of the run stand at the start line."""
        if self._count is not None:
            self._count.note_before()

    def note_after(self) -> None:
        """The last call has ended."""
        if self._count is not None:
            self._count.note_after()

    def told_in(self, reports: Sequence[PartReport]) -> list[PartReport]:
        """The reports of a crew, with what was counted in the first one."""
        said = () if self._count is None else self._count.said()
        if not any(said):
            return [*reports]
        seen = zip_longest(reports[0].seen, said, fillvalue=None)  # it may have crashed
        told = tuple(replace(one or ServerSeen(), said=own) for one, own in seen)
        return [replace(reports[0], seen=told), *reports[1:]]


def server_figures(done: Execution) -> tuple[ServerFigures, ...]:
    """Of each server, in the order of the spec."""
    reports = [report for process in done.processes for report in process.reports]
    seen = [report.seen for report in reports if report.seen]
    return tuple(map(_figures, zip(*seen, strict=True)))


def _figures(seen: Sequence[ServerSeen]) -> ServerFigures:
    reached = next((one.reached for one in seen if one.reached is not None), None)
    opened_ms = [took for one in seen for took in one.opened_ms]
    resolved_ms = [took for one in seen for took in one.resolved_ms]
    return ServerFigures(
        reached=reached,
        software=next((one.software for one in seen if one.software), None),
        said=next((one.said for one in seen if one.said is not None), None),
        opened_before=sum(one.opened_before for one in seen),
        opened=sum(one.opened for one in seen),
        open_p50_ms=float(np.median(opened_ms)) if opened_ms else None,
        open_max_ms=max(one.opened_max_ms for one in seen) if opened_ms else None,
        resolve_p50_ms=float(np.median(resolved_ms)) if resolved_ms else None,
    )
