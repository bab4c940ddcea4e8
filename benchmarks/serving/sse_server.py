"""A server that answers in pieces at known times: a program of its own, without torch.

    python -m serving.sse_server PORT

The first token is written 40 ms after a request was read, 15 more at 10 ms each from then: all on a
schedule that is absolute. ``GET /lateness`` tells how late they were written since it was asked
before, in milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import sys

from serving import wording
from serving.http_server import Connection, answer, run, serve
from serving.timetable import Timetable, now

FIRST_S, GAP_S = 0.040, 0.010
_EVENTS = wording.events()
_WHOLE = answer(wording.whole_answer())
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
)


class Streaming(Connection):
    """Its requests are answered by the timetable."""

    def __init__(self, timetable: Timetable) -> None:
        super().__init__()
        self._timetable = timetable

    def asked(self, body: bytes) -> None:
        """The head at once, and pieces when they are due."""
        due = now() + FIRST_S
        if not json.loads(body).get("stream"):
            self.write(_WHOLE)
            return
        self.write(_HEAD)
        self._timetable.at(due, self._piece, 0, due)

    def _piece(self, number: int, due: float) -> None:
        self.write(_EVENTS[number])
        if number + 1 < wording.CHUNKS and self.out is not None:
            self._timetable.at(due + GAP_S, self._piece, number + 1, due + GAP_S)

    def page(self, path: str) -> bytes:
        """How late it was, too."""
        if path != "/lateness":
            return super().page(path)
        late = sorted(self._timetable.late_ms)
        self._timetable.late_ms.clear()
        told = {}
        for name, q in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
            told[name] = late[int(q * (len(late) - 1))] if late else 0.0
        return answer(json.dumps(told))


async def _main() -> None:
    timetable = Timetable(asyncio.get_running_loop())
    await serve(int(sys.argv[1]), lambda: Streaming(timetable))


if __name__ == "__main__":
    run(_main())
