"""What a process does that was started to wait for its orders, until it has them."""

from __future__ import annotations

import ctypes
import io
import os
import pickle
import signal
import socket
import struct
import sys
from contextlib import suppress
from multiprocessing import process, spawn
from typing import TYPE_CHECKING, NoReturn

from inferload.machine.caches import keep_what_torch_compiles

if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
#: What comes first: how many descriptors follow, and how many bytes after them.
HEAD = struct.Struct("!QQ")
#: How many descriptors one message can carry.
MOST_AT_ONCE = 253


class GivenFile:
    """A descriptor that comes with the orders; ``multiprocessing`` asks for it by ``detach``."""

    came: tuple[int, ...] = ()

    def __init__(self, place: int) -> None:
        self.place = place

    def detach(self) -> int:
        """Its number in this process."""
        return self.came[self.place]


def follow(number: int, parent: int, load: Callable[[], None] | None) -> NoReturn:
    """Wait for orders at the socket of this number, and follow them; the process ends with them.

    They are what ``multiprocessing`` gives a process that it spawns: what to set up, and a process
    object. ``parent``: who started this. ``load``: what to do while there are none.
    """
    die_with(parent)
    if load is not None:
        with suppress(Exception):  # it is tried again, and told, once there are orders
            keep_what_torch_compiles()
            load()
    with socket.socket(fileno=number) as starter:
        files, size = HEAD.unpack(_received(starter, HEAD.size))
        came: list[int] = []
        while len(came) < files:
            found = socket.recv_fds(starter, 1, MOST_AT_ONCE)
            if not found[0]:
                raise SystemExit(1)  # the starter has no use for this any more
            came += found[1]
        GivenFile.came = tuple(came)
        content = io.BytesIO(_received(starter, size))
        own = process.current_process()
        own._inheriting = True  # type: ignore[attr-defined] # noqa: SLF001 - as spawned ones do
        try:
            spawn.prepare(pickle.load(content))  # noqa: S301 - the starter's own
            ordered = pickle.load(content)  # noqa: S301
        finally:
            del own._inheriting  # type: ignore[attr-defined] # noqa: SLF001
        sys.exit(ordered._bootstrap(os.dup(number)))  # noqa: SLF001


def _received(starter: socket.socket, size: int) -> bytearray:
    content = bytearray(size)
    left = memoryview(content)
    while left:
        count = starter.recv_into(left)
        if not count:
            raise SystemExit(1)
        left = left[count:]
    return content


def die_with(parent: int) -> None:
    """Have the system end this process when its starter ends, whatever it is doing then."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
