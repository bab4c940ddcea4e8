"""The process that others are forked from, and what a fork does to be as a process just started.

What ``forks.py`` asks of it comes by a socket, one request after another.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import random
import signal
import socket
import sys
import warnings
from multiprocessing import util
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

# What ends a program, and not what its processes are forked from.
_TO_A_GROUP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_MOST_BYTES = 2**20
_ABOVE_ALL = 1000  # no file of ours has a number that is higher
_WHAT_THEY_IMPORT = (
    "inferload.callers.processes.worker",
    "inferload.studies.child.serving",
    "inferload.cli.main",
    "torch.distributed.run",
)


def _draw_anew() -> None:
    """Have generators that are seeded when they are imported not draw what all others draw."""
    import numpy as np

    random.seed()
    np.random.seed()  # noqa: NPY002 - this is the generator that models use


def serve(connection: socket.socket) -> None:
    """Fork processes until nobody asks any more."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # as there: when imported, it looks for nothing in the net
    _import(_WHAT_THEY_IMPORT)
    while True:
        content, fds, _, _ = socket.recv_fds(connection, _MOST_BYTES, 64)
        if not content:
            return
        request = json.loads(content)
        if "imports" in request:
            _import(request["imports"])
            connection.send(b"done")
            continue
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


def _import(names: Sequence[str]) -> None:
    for name in names:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


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
    os.umask(request["umask"])
    _draw_anew()
    for number in _TO_A_GROUP:
        by_itself = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, by_itself)
    for number in request["ignored"]:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])
    if "OMP_NUM_THREADS" in os.environ:
        import torch

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    sys.argv = request["argv"]
    if "program" in request:
        _be_program(**request["program"])
    exec(request["code"], {"__name__": "__main__"})  # noqa: S102 - ours, or multiprocessing's
    sys.exit()


def _be_program(*, first: str, session: bool, unbuffered: bool) -> None:
    """Be a program that was just started, in whose place processes are forked that it spawns."""
    from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

    from support.forks import Forked, Forks

    if session:
        os.setsid()
    own = [one for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one]
    sys.path[:] = [first, *(one for one in own if one not in sys.path[1:]), *sys.path[1:]]
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if _fork() == 0:
        here.close()
        for number in _TO_A_GROUP:
            signal.signal(number, signal.SIG_IGN)
        nothing, own_end = os.open(os.devnull, os.O_RDWR), there.detach()
        _take({0: nothing, 1: nothing, 2: nothing, own_end: own_end})
        serve(socket.socket(fileno=own_end))
        os._exit(0)
    there.close()
    util.spawnv_passfds = Forked.forks = Forks(here)
    subprocess_handler.Popen = Forked  # by which torchrun starts its ranks
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        before = getattr(sys, name)
        stream = open(  # noqa: SIM115 - it lasts as long as the process
            number,
            "w" if number else "r",
            buffering=1 if number == 2 or unbuffered or os.isatty(number) else -1,
            encoding=before.encoding,
            errors=before.errors,
            closefd=False,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


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
    sys.path[0] = str(Path(__file__).parents[1])
    serve(socket.socket(fileno=int(sys.argv[1])))
