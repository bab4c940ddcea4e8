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
# Below it callers are in no call for a part of the time worth a word.
IN_CALLS = 0.9
# By so much the count of a server may differ.
COUNTS_APART = 0.01


def server_checks(found: Findings) -> Iterator[Texts]:
    """All of it."""
    for check in (sender, reopened, counts):
        yield from check(found)


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
            f"these latencies, and perhaps the limit of this rate{_standing(found)}"
        ),
        (
            f"--processes {more} sends from as many cores, if the machine has them; ranks "
            "(torchrun) from several machines"
        ),
    )


def _standing(found: Findings) -> str:
    """How long callers of a closed loop were in no call: one sends in a turn of the loop."""
    law = found.summary.littles_law
    if found.spec.open_loop or law is None or law >= IN_CALLS:
        return ""
    return f"; callers stood in line to send for {1 - law:.0%} of it, which is in no latency"


def busy_share(one: ProcessFigures) -> float | None:
    """How much of the time a process was on cores, where that is known."""
    if one.cpu is None or len(one.cpu.times_s) < 2:
        return None
    took_s = one.cpu.times_s[-1] - one.cpu.times_s[0]
    return one.cpu.cpu_s[-1] / took_s if took_s > 0 else None


def reopened(found: Findings) -> Iterator[Texts]:
    """Connections that were to be kept, and that the server has closed."""
    for spec, seen in zip(found.spec.servers, found.servers, strict=False):
        anew = seen.opened - max(found.spec.callers - seen.opened_before, 0)
        if spec.connections != "kept" or anew <= 0:
            continue
        failed = found.failed_calls
        why = " (some of them after calls that failed)" if failed else ""
        yield (
            "connections-reopened",
            (
                f"{anew:,} connections were opened anew while calls were measured{why}, "
                "which is a part of those calls"
            ),
            (
                f"the server speaks {spec.http}, which keeps none"
                if spec.http == "HTTP/1.0"
                else "a guess: the server's keep-alive time-out is shorter than the pauses between "
                "a caller's calls; clients of it see that, too"
            ),
        )
        return


def counts(found: Findings) -> Iterator[Texts]:
    """What could not be read, and counts that are not ours."""
    for one in found.servers:
        for trouble in () if one.said is None else one.said.troubles:
            yield (
                "server-unread",
                f"what the server counted is not known: {trouble}",
                "inferload's own figures do without it; where calls waited is not known",
            )
    spec = found.spec
    # a server of a mix may count what the others of its models were asked, too
    single = len(found.servers) == 1 and len(spec.models) <= 1
    if not single or found.cut_short or spec.ranks > 1:
        return
    said = found.servers[0].said
    if said is None or said.requests is None:
        return
    made = found.made_calls
    # what failed here may have been answered there
    if (
        (made - found.failed_calls) * (1 - COUNTS_APART)
        <= said.requests
        <= made * (1 + COUNTS_APART)
    ):
        return
    yield (
        "server-counts-differ",
        (
            f"the server counted {said.requests:,} requests ({said.counted_by}) while {made:,} "
            "were sent from here"
        ),
        (
            "others ask it, too, or one call is several requests to it (a list of prompts)"
            if said.requests > made
            else "something before it answers (a cache, a balancer), or it has several processes "
            "that each count for themselves"
        ),
    )
