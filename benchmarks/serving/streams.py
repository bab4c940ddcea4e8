"""How true times of pieces are: the same server's, read by raw sockets, by us and by peers."""

from __future__ import annotations

import json
import statistics
import urllib.request
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING

from measuring import Row, middle_and_range
from serving import ours
from serving.parts import Effort, beyond, missing, say
from serving.peers import PEERS, Told
from serving.processes import cores, free_port, output_of, program, served

if TYPE_CHECKING:
    import inferload as il

STREAMS = (1, 4, 64)
# A request takes 190 ms: 50 of each stream are 9.5 s.
_REQUESTS, _LEAST = 50, 100
_REACHES = {"p50": "<= 0.3 ms", "p99": "<= 1 ms"}

Both = dict[str, dict[str, float]]


@dataclass(slots=True)
class Found:
    """What each said, a round each: of ``first_ms`` and ``gap_ms`` p50 and p99."""

    raw: list[Both] = field(default_factory=list)
    mine: list[Both] = field(default_factory=list)
    late: list[dict[str, float]] = field(default_factory=list)
    peers: list[list[Told]] = field(default_factory=lambda: [[] for _ in PEERS])


def stream_rows(effort: Effort) -> list[Row]:
    """All of 1, 4 and 64 streams; whoever reads has one core, and the server the other."""
    own, other = cores()
    port = free_port()
    rows = []
    with served(program("sse_server", port), port, other):
        for streams in STREAMS:
            found = Found()
            for _ in range(effort.rounds):
                _round(found, streams, port, own, effort)
            rows += _rows(streams, found)
    return rows


def _round(found: Found, streams: int, port: int, core: int, effort: Effort) -> None:
    requests = max(_REQUESTS * streams, _LEAST) // (5 if effort.quick else 1)
    origin = f"http://127.0.0.1:{port}"
    say(f"streams: {streams}, raw sockets")
    _lateness(port)
    words = program("raw_streams", port, streams, requests)
    found.raw.append(json.loads(output_of(words, core=core, limit_s=120)))
    found.late.append(_lateness(port))
    say(f"streams: {streams}, inferload")
    options = f"--callers {streams} --calls {requests} --warmup 2"
    found.mine.append(ours.measured(origin, options, _pieces_of, core=core, stream=True))
    for peer, told in zip(PEERS, found.peers, strict=True):
        say(f"streams: {streams}, {peer.name}")
        args = peer.closed(streams, requests=requests)
        told.append(peer.told(origin, args, stream=True, core=core))


def _pieces_of(result: il.RunResult) -> Both:
    pieces = result.summary.pieces
    if pieces is None or pieces.first_ms is None or pieces.gap_ms is None:
        raise AssertionError("every answer comes in pieces")
    return {
        name: {"p50": told.quantile(0.5), "p99": told.quantile(0.99)}
        for name, told in (("first_ms", pieces.first_ms), ("gap_ms", pieces.gap_ms))
    }


def _lateness(port: int) -> dict[str, float]:
    """How late the server wrote since this was asked last."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/lateness", timeout=10) as answer:
        told: dict[str, float] = json.load(answer)
    return told


def _rows(streams: int, found: Found) -> list[Row]:
    rows = []
    many = f"{streams} stream" + "s" * (streams > 1)
    for quantile in ("p50", "p99"):
        middle, low, high = middle_and_range([one[quantile] for one in found.late])
        rows.append(
            Row(
                measure=f"{many}: the server itself, beside raw sockets, late by {quantile}",
                ours="",
                reference=f"{middle:.3f} ms",
                figure=f"{middle:.3f} ms",
                spread=f"{low:.3f}-{high:.3f}",
                reach="<= 0.3 ms" if quantile == "p50" else "-",
            )
        )
    for (name, word), quantile in product(
        (("first_ms", "first token"), ("gap_ms", "single gaps")), _REACHES
    ):
        raw = [one[name][quantile] for one in found.raw]
        mine = [one[name][quantile] for one in found.mine]
        own, bare = (f"{statistics.median(one):.2f} ms" for one in (mine, raw))
        over = [a - b for a, b in zip(mine, raw, strict=True)]
        what = f"{many}: {word} {quantile}"
        rows.append(beyond(f"{what}, beyond raw sockets", own, bare, over, _REACHES[quantile]))
        for peer, told in zip(PEERS, found.peers, strict=True):
            its = f"{what} ({peer.gaps})" if peer.gaps and name == "gap_ms" else what
            rows.append(_peer_row(f"{its}, {peer.name} beyond raw", own, raw, told, name, quantile))
    return rows


def _peer_row(
    measure: str, own: str, raw: list[float], told: list[Told], name: str, quantile: str
) -> Row:
    none = missing(measure, own, told)
    if none is not None:
        return none
    its = [(one.first_ms if name == "first_ms" else one.gap_ms)[quantile] for one in told]
    over = [a - b for a, b in zip(its, raw, strict=True)]
    return beyond(measure, own, f"{statistics.median(its):.2f} ms", over, "-")
