"""What it costs to open a connection for each request, beside keeping one for each caller."""

from __future__ import annotations

from functools import partial

from measuring import Row, alternated, rates_row
from serving import ours
from serving.nginx import nginx
from serving.parts import Effort, say
from serving.processes import cores

CALLERS = 16


def connection_rows(effort: Effort) -> list[Row]:
    """Against nginx on the other core, in turn."""
    own, other = cores()
    seconds = effort.seconds(5)

    def per_s(origin: str, connections: str) -> float:
        say(f"connections: {connections}")
        options = f"--callers {CALLERS} --duration {seconds}s --connections {connections}"
        return ours.measured(origin, options, ours.per_s, core=own)

    with nginx(other) as origin:
        new, kept = alternated(
            effort.rounds, *(partial(per_s, origin, kind) for kind in ("new", "kept"))
        )
    return [
        rates_row(
            f"one core, {CALLERS} callers: --connections new (left) against kept", new, kept, "-"
        )
    ]
