"""How many requests a second one core makes, and up to which rate it is true to its schedule."""

from __future__ import annotations

import json
import statistics
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

from measuring import Row, alternated, middle_and_range
from serving import ours, wording
from serving.nginx import nginx
from serving.parts import Effort, against, say
from serving.peers import PEERS, Peer, Told
from serving.processes import cores, output_of, program

if TYPE_CHECKING:
    import inferload as il

CALLERS = 16
LOOPS = ("uvloop", "asyncio")
RATES = (1000, 2000, 4000, 6000, 8000)
_OPEN_CALLERS = 64


def rate_rows(effort: Effort) -> list[Row]:
    """Closed and open loop against nginx, which has the other core."""
    own, other = cores()
    with nginx(other) as origin:
        return closed_rows(origin, own, effort) + open_rows(origin, own, effort)


def closed_rows(origin: str, core: int, effort: Effort) -> list[Row]:
    """Ours, by hand, and the peers, in turn."""
    seconds = effort.seconds(8)

    def mine(loop: str) -> Told:
        say(f"rate: inferload, {loop}")
        options = f"--callers {CALLERS} --duration {seconds}s"
        uvloop = loop == "uvloop"
        return Told(per_s=ours.measured(origin, options, ours.per_s, core=core, uvloop=uvloop))

    def by_hand(loop: str) -> Told:
        say(f"rate: by hand, {loop}")
        words = program("by_hand", f"{origin}{wording.PATH}", CALLERS, seconds, loop)
        return Told(per_s=json.loads(output_of(words, core=core, limit_s=seconds + 60))["per_s"])

    def its(peer: Peer) -> Told:
        say(f"rate: {peer.name}")
        return peer.told(origin, peer.closed(CALLERS, seconds=seconds), core=core)

    found = alternated(
        effort.rounds,
        *(partial(side, loop) for loop in LOOPS for side in (mine, by_hand)),
        *(partial(its, peer) for peer in PEERS),
    )
    own = dict(zip(LOOPS, found[0::2], strict=False))
    hand = dict(zip(LOOPS, found[1::2], strict=False))
    peers = dict(zip((peer.name for peer in PEERS), found[-len(PEERS) :], strict=True))
    what = f"one core, {CALLERS} callers, requests/s"
    return [
        *(
            against(f"{what}: {loop}, against {name}", own[loop], told, ">= 2x")
            for loop, (name, told) in product(LOOPS, peers.items())
        ),
        *(
            against(f"{what}: {loop}, against aiohttp by hand", own[loop], hand[loop], "-")
            for loop in LOOPS
        ),
    ]


def open_rows(origin: str, core: int, effort: Effort) -> list[Row]:
    """How late calls of an open loop begin, rate by rate."""
    seconds = effort.seconds(8)

    def late(rate: int) -> tuple[float, float]:
        say(f"rate: open loop, {rate:,}/s")
        options = f"--callers {_OPEN_CALLERS} --rate {rate} --arrivals constant"
        return ours.measured(
            origin, f"{options} --duration {seconds}s --warmup 20", _late_of, core=core
        )

    found = alternated(effort.rounds, *(partial(late, rate) for rate in RATES))
    rows = []
    for rate, values in zip(RATES, found, strict=True):
        middle, low, high = middle_and_range([lateness for lateness, _ in values])
        queue = statistics.median(waited for _, waited in values)
        rows.append(
            Row(
                measure=f"one core, open loop at {rate:,}/s, uvloop: lateness p99",
                ours=f"{middle:.3f} ms (queue p99 {queue:.3f} ms)",
                reference="",
                figure=f"{middle:.3f} ms",
                spread=f"{low:.3f}-{high:.3f}",
                reach="-",
            )
        )
    best = [float(_highest(one)) for one in zip(*found, strict=True)]
    middle, low, high = middle_and_range(best)
    highest = Row(
        measure="one core, open loop: highest of these rates with p99 of lateness and queue < 1 ms",
        ours=f"{middle:,.0f}/s",
        reference="",
        figure=f"{middle:,.0f}/s",
        spread=f"{low:,.0f}-{high:,.0f}",
        reach="-",
    )
    return [*rows, highest]


def _late_of(result: il.RunResult) -> tuple[float, float]:
    """Lateness and queue at p99.

    Of a harness that is behind all callers are busy, and then a call is not late but queued.
    """
    late, queue = result.summary.lateness_ms, result.summary.queue_ms
    if late is None or queue is None:
        raise AssertionError("an open loop has both")
    return late.quantile(0.99), queue.quantile(0.99)


def _highest(found: tuple[tuple[float, float], ...]) -> int:
    """The last rate before the first one that is not kept."""
    highest = 0
    for rate, both in zip(RATES, found, strict=True):
        if max(both) >= 1:
            break
        highest = rate
    return highest
