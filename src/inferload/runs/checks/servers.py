"""What is doubtful about a run that asked a server: above all its own sender."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferload.units import milliseconds_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inferload.records.figures import ProcessFigures
    from inferload.runs.checks.findings import Findings, Texts

# A sender that is on its core for more of the time has requests wait for it.
BUSY = 0.85
# A loop that is late by more in the median is held up, whatever its timers round.
LATE_MS = 1.0


def sender(found: Findings) -> Iterator[Texts]:
    """Whether what sends was the limit."""
    if not found.spec.servers:
        return
    shares = [share for one in found.processes if (share := busy_share(one)) is not None]
    most = max(shares, default=0.0)
    lag_ms = 0.0 if found.loop_lag_ms is None else found.loop_lag_ms[0]
    if most < BUSY and lag_ms < LATE_MS:
        return
    more = 2 * found.spec.processes
    late = f", and late by {milliseconds_text(lag_ms)} in the median" if lag_ms >= LATE_MS else ""
    yield (
        "sender-busy",
        (
            f"the sender was on a core for {most:.0%} of the time{late}: its own work is a part of "
            "these latencies, and perhaps the limit of this rate"
        ),
        (
            f"--processes {more} sends from as many cores, if the machine has them; ranks "
            "(torchrun) from several machines"
        ),
    )


def busy_share(one: ProcessFigures) -> float | None:
    """How much of the time a process was on cores, where that is known."""
    if one.cpu is None or len(one.cpu.times_s) < 2:
        return None
    took_s = one.cpu.times_s[-1] - one.cpu.times_s[0]
    return one.cpu.cpu_s[-1] / took_s if took_s > 0 else None


def reopened(found: Findings) -> Iterator[Texts]:
    """Connections that were to be kept, and that the server has closed."""
    for spec, seen in zip(found.spec.servers, found.servers, strict=False):
        if spec.connections != "kept" or not seen.opened:
            continue
        failed = found.failed_calls
        why = " (some of them after calls that failed)" if failed else ""
        yield (
            "connections-reopened",
            (
                f"{seen.opened:,} connections were opened anew while calls were measured{why}, "
                "which is a part of those calls"
            ),
            (
                "a guess: the server's keep-alive time-out is shorter than the pauses between a "
                "caller's calls; clients of it see that, too"
            ),
        )
        return
