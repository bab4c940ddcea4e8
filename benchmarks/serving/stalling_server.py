"""A server that answers one after another and stands still once: a program without torch.

    python -m serving.stalling_server PORT SERVICE_S STALL_S AT

All connections are one queue, first come first served. Each answer takes SERVICE_S, and before that
of the request with the number AT nothing is done for STALL_S.
"""

from __future__ import annotations

import asyncio
import sys

from serving import wording
from serving.http_server import Connection, answer, run, serve
from serving.timetable import Timetable, now

_ANSWER = answer(wording.whole_answer())


class Queue:
    """When the server is free again, and how many have asked."""

    def __init__(self, service_s: float, stall_s: float, at: int) -> None:
        self._service_s, self._stall_s, self._at = service_s, stall_s, at
        self._free = 0.0
        self._count = 0

    def next_answer(self) -> float:
        """When a request that comes now is answered."""
        self._count += 1
        begins = max(now(), self._free)
        if self._count == self._at:
            begins += self._stall_s
        self._free = begins + self._service_s
        return self._free


class Queued(Connection):
    """Its requests wait in the queue of all."""

    def __init__(self, queue: Queue, timetable: Timetable) -> None:
        super().__init__()
        self._queue, self._timetable = queue, timetable

    def asked(self, body: bytes) -> None:
        """Answer when it is its turn."""
        del body
        self._timetable.at(self._queue.next_answer(), self.write, _ANSWER)


async def _main() -> None:
    service_s, stall_s, at = sys.argv[2:5]
    queue = Queue(float(service_s), float(stall_s), int(at))
    timetable = Timetable(asyncio.get_running_loop())
    await serve(int(sys.argv[1]), lambda: Queued(queue, timetable))


if __name__ == "__main__":
    run(_main())
