"""Processes that are started before it is known what for: they load, then wait for their orders.

``multiprocessing`` hands everything over when it starts one, which is when a model and its options
are known; until then torch could have been imported. It also starts a process that tidies up after
semaphores and outlives the program for a moment: nothing here needs one.
"""

from __future__ import annotations

import io
import os
import signal
import socket
import sys
from contextlib import contextmanager, suppress
from multiprocessing import popen_spawn_posix, reduction, spawn, util
from multiprocessing.context import SpawnProcess, set_spawning_popen
from typing import TYPE_CHECKING, Any

from inferload.callers.processes.orders import HEAD, MOST_AT_ONCE, GivenFile
from inferload.signals import ENDING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_CODE = (
    "import sys; sys.path[:] = {path!r}; "
    "from inferload.callers.processes import entry, orders; "
    "orders.follow({number}, {parent}, {load})"
)


class Waiting:
    """A process that waits for orders; ``loads``: it imports torch meanwhile."""

    def __init__(self, *, loads: bool) -> None:
        self.environment = dict(os.environ)
        self.socket, there = socket.socketpair()
        with there:
            path = [one for one in sys.path if isinstance(one, str)]
            number = there.fileno()
            code = _CODE.format(
                path=path, number=number, parent=os.getpid(), load="entry.load" if loads else None
            )
            words = [sys.executable, *_flags(), "-c", code, "--multiprocessing-fork"]
            with deaf():
                self.pid: int = util.spawnv_passfds(
                    os.fsencode(sys.executable), [os.fsencode(one) for one in words], [number]
                )

    def order(self, content: memoryview, files: Sequence[int]) -> None:
        """Give it its orders, with descriptors that it finds in this order; it may have died."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(HEAD.pack(len(files), len(content)))
            for begin in range(0, len(files), MOST_AT_ONCE):
                socket.send_fds(self.socket, [b"f"], files[begin : begin + MOST_AT_ONCE])
            self.socket.sendall(content)

    def end(self) -> None:
        """End it: there are no orders for it."""
        self.socket.close()
        with suppress(ProcessLookupError, ChildProcessError):  # where nobody waits for children
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def _flags() -> list[str]:
    """Those of this interpreter, as far as ``multiprocessing`` hands them on."""
    found: list[str] = util._args_from_interpreter_flags()  # type: ignore[attr-defined] # noqa: SLF001
    return found


class _Popen(popen_spawn_posix.Popen):
    """What a process object is started by: orders to a process that waits."""

    DupFd = GivenFile  # type: ignore[assignment]
    _fds: list[int]

    def duplicate_for_child(self, fd: int) -> int:
        """Send a descriptor along; its place among them."""
        self._fds.append(fd)
        return len(self._fds) - 1

    def _launch(self, process_obj: Any) -> None:
        content = io.BytesIO()
        set_spawning_popen(self)
        try:
            reduction.dump(spawn.get_preparation_data(process_obj.name), content)
            reduction.dump(process_obj, content)
        finally:
            set_spawning_popen(None)
        waiting = _taken()
        self.pid, self.sentinel = waiting.pid, waiting.socket.fileno()
        self.finalizer = util.Finalize(self, waiting.socket.close)
        waiting.order(content.getbuffer(), self._fds)


class OrderedProcess(SpawnProcess):
    """A process of ``multiprocessing`` that is given its orders, be it there already or not."""

    @staticmethod
    def _Popen(process_obj: Any) -> _Popen:  # noqa: N802 - the name that it has there
        return _Popen(process_obj)


@contextmanager
def deaf() -> Iterator[None]:
    """Have a process started in here be deaf to the signals that end one, until it begins."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Early:
    process: Waiting | None = None


def start_early() -> None:
    """Start the process that the first orders will be given to: it loads meanwhile."""
    with suppress(OSError):  # if no process can be had, that is told when there are orders
        _Early.process = Waiting(loads=True)


def not_early() -> None:
    """End the process that was started early, unless it has orders."""
    early, _Early.process = _Early.process, None
    if early is not None:
        early.end()


def _taken() -> Waiting:
    """A process that has loaded what it would load if it was started now, or will."""
    early = _Early.process
    if early is not None and early.environment == os.environ:
        _Early.process = None
        return early
    not_early()
    return Waiting(loads=False)
