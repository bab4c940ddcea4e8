"""A server that stands still for a second: what says the 99th percentile of an open loop?

MEASUREMENT.md's formula is of callers that are the queue; here the server is, and callers are so
many that none of ours is ever waited for. Requests come at a constant rate R, the server answers
one after another in s each, and is busy for rho = R s of the time. At one moment it stops for S. A
request that comes u later finds R u before it, so that it is answered S + R u s + s after that
moment: its response is

    W(u) = S + rho u + s - u = s + S - (1 - rho) u,

down to s again at u = S / (1 - rho). In a run of T seconds as many requests as come within v are
the fraction v / T of all, and those that wait longer than W(v) are just they. With v = (1 - q) T:

    L_q = s + max(0, S - (1 - q) (1 - rho) T),

within one interval of arrivals. R S requests are in flight at most, so more callers than that.
"""

from __future__ import annotations

import statistics
from functools import partial
from typing import TYPE_CHECKING

from measuring import Row
from serving import ours
from serving.parts import Effort, beyond, missing, say
from serving.peers import PEERS, Peer, Told
from serving.processes import cores, free_port, program, served

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    import inferload as il

    T = TypeVar("T")

RATE, SERVICE_S, STALL_S, CALLERS = 500, 0.001, 1.0, 1024


def expected_ms(quantile: float, seconds: float) -> float:
    """The formula above.

    >>> round(expected_ms(0.99, 20), 3)
    901.0
    """
    busy = RATE * SERVICE_S
    waited = max(0.0, STALL_S - (1 - quantile) * (1 - busy) * seconds)
    return (SERVICE_S + waited) * 1e3


def stall_rows(effort: Effort) -> list[Row]:
    """Ours against the formula, and what peers print; nobody but the server is held to a core."""
    seconds = 6 if effort.quick else 20
    wanted = expected_ms(0.99, seconds)
    mine: list[float] = []
    told: list[list[Told]] = [[] for _ in PEERS]
    for _ in range(effort.rounds):
        say("stall: inferload")
        mine.append(_served(seconds, partial(_ours, seconds)))
        for peer, own in zip(PEERS, told, strict=True):
            say(f"stall: {peer.name}")
            own.append(_served(seconds, partial(_told, peer, seconds)))
    own_ms, wanted_ms = f"{statistics.median(mine):.1f} ms", f"{wanted:.1f} ms by the formula"
    what = f"{RATE}/s for {seconds} s, one stall of {STALL_S:g} s: response p99"
    middle = statistics.median(abs(one - wanted) for one in mine)
    off = [one - wanted for one in mine]
    rows = [
        Row(
            measure=what,
            ours=own_ms,
            reference=wanted_ms,
            figure=f"{middle:.1f} ms off",
            spread=f"{min(off):+.1f} to {max(off):+.1f}",
            reach="<= 15 ms",
        )
    ]
    for peer, its in zip(PEERS, told, strict=True):
        measure = f"{what} as {peer.name} prints it, beyond the formula"
        rows.append(missing(measure, own_ms, its) or _peer_row(measure, own_ms, its, wanted))
    return rows


def _peer_row(measure: str, own: str, its: list[Told], wanted: float) -> Row:
    printed = [one.latency_ms["p99"] for one in its]
    words = f"{statistics.median(printed):.1f} ms"
    from_due = [one.from_due_ms["p99"] for one in its if one.from_due_ms]
    if from_due:
        words += f" (from when due {statistics.median(from_due):.1f} ms)"
    return beyond(measure, own, words, [one - wanted for one in printed], "-")


def _served(seconds: int, ask: Callable[[str], T]) -> T:
    """What is asked of a server that has not stood still yet."""
    port = free_port()
    middle = RATE * seconds // 2
    words = program("stalling_server", port, SERVICE_S, STALL_S, middle)
    with served(words, port, cores()[1]):
        return ask(f"http://127.0.0.1:{port}")


def _ours(seconds: int, origin: str) -> float:
    options = f"--callers {CALLERS} --rate {RATE} --arrivals constant --duration {seconds}s"
    return ours.measured(origin, f"{options} --warmup 1", _p99_of, core=None)


def _p99_of(result: il.RunResult) -> float:
    response = result.summary.response_ms
    if response is None:
        raise AssertionError("calls returned")
    return response.quantile(0.99)


def _told(peer: Peer, seconds: int, origin: str) -> Told:
    return peer.told(origin, peer.constant(RATE, seconds))
