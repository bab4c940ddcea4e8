"""When the pieces of answers reach a socket, by the least that reads them: without torch.

    python -m serving.raw_streams PORT STREAMS REQUESTS

As many streams as asked for make REQUESTS in all, one after another. A time is taken when bytes
have been read, before anything is done with them. Prints JSON: quantiles of the time to the first
token and of single gaps, in milliseconds.
"""

from __future__ import annotations

import asyncio
import gc
import json
import math
import socket
import sys
import time
from itertools import pairwise
from typing import cast

from serving import wording
from serving.http_server import run

_BODY = json.dumps(wording.asked(stream=True)).encode()
_REQUEST = (
    f"POST {wording.PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    f"Content-Length: {len(_BODY)}\r\n\r\n"
).encode() + _BODY
_TOKEN, _END = b'"content":', b"\r\n0\r\n\r\n"
_WARM_UP = 2


class Stream(asyncio.Protocol):
    """One connection; ``left``: requests that all streams share."""

    def __init__(self, left: list[int], done: asyncio.Semaphore) -> None:
        self._left, self._done = left, done
        self._out: asyncio.Transport | None = None
        self._warmed = 0
        self._times: list[int] = []
        #: When it asked, and when each token came, nanoseconds, of each request.
        self.answers: list[list[int]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._out = cast("asyncio.Transport", transport)  # as in http_server
        own = transport.get_extra_info("socket")
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ask()

    def _ask(self) -> None:
        warming = self._warmed < _WARM_UP
        if self._out is None or (not warming and not self._left[0]):
            self._done.release()
            return
        if warming:
            self._warmed += 1
            self._times = []
        else:
            self._left[0] -= 1
            self._times = []
            self.answers.append(self._times)
        self._times.append(time.perf_counter_ns())
        self._out.write(_REQUEST)

    def data_received(self, data: bytes) -> None:
        """Take the time, then look what came."""
        came = time.perf_counter_ns()
        self._times += [came] * data.count(_TOKEN)
        if data.endswith(_END):
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """The server has gone."""
        del exc
        self._out = None
        self._done.release()


def quantiles(values_ns: list[int]) -> dict[str, float]:
    """Those of rank ceil(q n), in milliseconds."""
    ranked = sorted(values_ns)
    return {f"p{q}": ranked[math.ceil(q * len(ranked) / 100) - 1] / 1e6 for q in (50, 99)}


async def _main(port: int, streams: int, requests: int) -> None:
    loop = asyncio.get_running_loop()
    left, done = [requests], asyncio.Semaphore(0)
    gc.freeze()
    opened = [
        (await loop.create_connection(lambda: Stream(left, done), "127.0.0.1", port))[1]
        for _ in range(streams)
    ]
    for _ in opened:
        await done.acquire()
    answers = [one for stream in opened for one in stream.answers]
    if any(len(one) != 1 + wording.CHUNKS for one in answers):
        raise SystemExit("the server did not send what it should")
    first = [one[1] - one[0] for one in answers]
    gaps = [after - before for one in answers for before, after in pairwise(one[1:])]
    print(json.dumps({"first_ms": quantiles(first), "gap_ms": quantiles(gaps)}))


if __name__ == "__main__":
    run(_main(*map(int, sys.argv[1:4])))
