"""Processes that ``multiprocessing`` spawns, forked from one that has imported torch already.

To import torch takes most of a second of processor time, and the tests start hundreds of processes
that do. Here a process is as a spawned one in what it can see: a child of its starter, with its
working directory, environment, signals, cores and the same open files, and it imports the starter's
main module and reads its orders by ``multiprocessing``'s own code. Where environment variables or
limits differ that are read when a program begins, it is spawned.
"""

from __future__ import annotations

import array
import ctypes
import gc
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import warnings
from multiprocessing import util
from typing import IO, TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
# What is read once, when the interpreter or a library is loaded.
_READ_AT_START = ("PYTHON", "OMP_", "MKL_", "OPENBLAS_", "KMP_", "GOMP_", "TORCH_", "LD_", "CUDA")
_LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]
_MOST_BYTES = 2**20
_ABOVE_ALL = 1000  # no file of ours has a number that is higher


def _read_at_start() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(_READ_AT_START)}


class Forks:
    """Stands for ``multiprocessing.util.spawnv_passfds``."""

    def __init__(self) -> None:
        self.spawned = util.spawnv_passfds
        self._server: subprocess.Popen[bytes] | None = None
        self._began = self._state()
        self._one_at_a_time = threading.Lock()

    @staticmethod
    def _state() -> tuple[object, ...]:
        return _read_at_start(), [resource.getrlimit(one) for one in _LIMITS]

    def __call__(self, path: Any, args: Sequence[Any], passfds: Sequence[int]) -> int:
        """Start a process; its number."""
        words = [os.fsdecode(one) for one in args]
        code = next((one for one in words if "spawn_main" in one), None)
        if code is None or self._state() != self._began:
            return self.spawned(path, args, passfds)
        return self._forked(
            code, ["-c", "--multiprocessing-fork"], {n: n for n in (0, 1, 2, *passfds)}
        )

    def script(self, path: Path, output: IO[bytes]) -> int:
        """Run a script of Python with what it writes going to a file; its exit code."""
        code = "import runpy, sys; runpy.run_path(sys.argv[0], run_name='__main__')"
        files = {0: 0, 1: output.fileno(), 2: output.fileno()}
        _, status = os.waitpid(self._forked(code, [str(path)], files), 0)
        return os.waitstatus_to_exitcode(status)

    def _forked(self, code: str, argv: list[str], files: dict[int, int]) -> int:
        """Fork a process that runs code with these files under these numbers; its number."""
        ignored = [n for n in signal.valid_signals() if signal.getsignal(n) is signal.SIG_IGN]
        request = {
            "code": code,
            "argv": argv,
            "environment": dict(os.environ),
            "folder": os.getcwd(),  # noqa: PTH109
            "cores": sorted(os.sched_getaffinity(0)),
            "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
            "ignored": sorted(ignored),
            "numbers": list(files),
        }
        with self._one_at_a_time:
            if self._server is None:
                self._start()
            _become_reaper(yes=True)  # a process whose parent ends becomes this one's child
            try:
                rights = array.array("i", files.values())
                self._here.sendmsg(
                    [json.dumps(request, default=int).encode()],
                    [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)],
                )
                return int(self._here.recv(64))
            finally:
                _become_reaper(yes=False)

    def _start(self) -> None:
        self._here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._server = subprocess.Popen(
            [sys.executable, __file__, str(there.fileno())],
            pass_fds=[there.fileno()],
            stdin=subprocess.DEVNULL,
        )
        there.close()

    def end(self) -> None:
        """End the process that others are forked from."""
        if self._server is not None:
            self._here.close()
            self._server.wait()


def _become_reaper(*, yes: bool) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(yes), 0, 0, 0)


def serve(connection: socket.socket) -> None:
    """Fork processes until nobody asks any more."""
    import inferload.callers.processes.worker
    import inferload.studies.child.serving  # noqa: F401

    gc.collect()
    gc.freeze()
    while True:
        content, fds, _, _ = socket.recv_fds(connection, _MOST_BYTES, 64)
        if not content:
            return
        request = json.loads(content)
        told, tell = os.pipe()
        go, start = os.pipe()
        between = _fork()
        if between == 0:
            child = _fork()
            if child == 0:
                os.close(start)
                os.read(go, 1)  # by then its parent is who asked for it
                connection.detach()
                _be(request, fds)
            os.write(tell, str(child).encode())
            os._exit(0)
        os.waitpid(between, 0)
        connection.send(os.read(told, 64))
        for one in (told, tell, go, start, *fds):
            os.close(one)


def _fork() -> int:
    with warnings.catch_warnings():
        # of the threads of OpenBLAS, which starts new ones in a child by itself
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _be(request: dict[str, Any], fds: Sequence[int]) -> NoReturn:
    """Be a process that was just spawned."""
    numbers = request["numbers"]
    _take(dict(zip(numbers, fds, strict=True)))
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    os.sched_setaffinity(0, request["cores"])
    for number in request["ignored"]:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])
    sys.argv = request["argv"]
    exec(request["code"], {"__name__": "__main__"})  # noqa: S102 - ours, or multiprocessing's
    sys.exit()


def _take(wanted: dict[int, int]) -> None:
    """Have files under these numbers, and no others."""
    above = max(_ABOVE_ALL, *wanted) + 1
    for place, fd in enumerate(wanted.values()):
        os.dup2(fd, above + place)
    os.closerange(3, above)
    for place, number in enumerate(wanted):
        os.dup2(above + place, number)
        os.close(above + place)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
