"""What all processes of a run saw of the servers that were asked, as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inferload.records.server import ServerFigures, ServerSeen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.runs.execution import Execution


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
        opened_before=sum(one.opened_before for one in seen),
        opened=sum(one.opened for one in seen),
        open_p50_ms=float(np.median(opened_ms)) if opened_ms else None,
        open_max_ms=max(opened_ms, default=None),
        resolve_p50_ms=float(np.median(resolved_ms)) if resolved_ms else None,
    )
