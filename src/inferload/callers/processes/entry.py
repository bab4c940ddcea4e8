"""Where a started process begins: what must be done before torch is imported."""

from __future__ import annotations

import atexit
import ctypes
import faulthandler
import gc
import os
import warnings
from contextlib import suppress
from multiprocessing import current_process
from typing import TYPE_CHECKING, NoReturn

from inferload.callers.processes import words as say
from inferload.callers.processes.birth import begin, flush, leave_signals
from inferload.callers.processes.early import deaf
from inferload.callers.processes.orders import die_with
from inferload.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection
    from pathlib import Path

    from inferload.callers.processes.birth import Birth
    from inferload.callers.processes.words import Assignment

_SET_MEMPOLICY = 238  # the number of the system call on x86-64
_MPOL_BIND = 2
#: Where a process writes what it was doing when a signal ended it.
CRASH_FILE = "crash-{process}.txt"
#: How long the path of a folder may be whose sockets have names: 108 bytes in all.
MOST_SOCKET_BYTES = 85
# What a nursery says: (BORN, number, process id), (ENDED, number, exit code).
BORN, ENDED = "born", "ended"


def nursery(
    connection: Connection, children: Sequence[tuple[Connection, Assignment]], birth: Birth
) -> None:
    """Import torch once, fork the processes with callers, and tell how each of them ends.

    A process that imports torch by itself has 140 MB of memory that it shares with none; of one
    that is forked from where torch was imported all but some 5 MB are shared.
    """
    begin(birth)
    with suppress(Exception):  # it is tried again, and told, by each child
        load()
    gc.collect()
    gc.freeze()  # a collector that walks over all objects would make each child copy them
    nurse, numbers = os.getpid(), {}
    for number, (own, assignment) in enumerate(children):
        with warnings.catch_warnings(), deaf():
            # of the threads of OpenBLAS, which starts new ones in a child by itself
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
            if pid == 0:
                leave_signals()  # a fork has the handlers of before
        if pid == 0:
            for other, (theirs, given) in enumerate(children):
                if other != number:
                    given.let_go()
                    theirs.close()
            connection.close()
            die_with(nurse)
            _run(own, assignment)
        numbers[pid] = number
        connection.send((BORN, number, pid))
    for own, assignment in children:
        assignment.let_go()
        own.close()
    while numbers:
        pid, status = os.wait()
        if pid in numbers:
            connection.send((ENDED, numbers.pop(pid), os.waitstatus_to_exitcode(status)))
    os._exit(0)


def _keep_sockets_in(folder: Path) -> None:
    """Let ``multiprocessing`` have its sockets where they go with the run, also a killed one."""
    if len(os.fsencode(folder)) <= MOST_SOCKET_BYTES:
        # as multiprocessing.util.get_temp_dir notes the folder that it makes
        config: dict[str, object] = current_process()._config  # type: ignore[attr-defined] # noqa: SLF001
        config["tempdir"] = str(folder)


def main(connection: Connection, assignment: Assignment, birth: Birth) -> None:
    """Run the callers of one process, and end."""
    begin(birth)
    _run(connection, assignment)


def _run(connection: Connection, assignment: Assignment) -> NoReturn:
    crash = (assignment.scratch / CRASH_FILE.format(process=assignment.process)).open("w")
    faulthandler.enable(crash, all_threads=False)
    own = sorted({cpu for caller in assignment.cpus for cpu in caller})
    if own:
        os.sched_setaffinity(0, own)
    if assignment.node is not None:
        _bind_memory(assignment.node)

    _keep_sockets_in(assignment.scratch)
    try:
        load()
    except Exception as error:  # noqa: BLE001 - of a broken torch
        text = f"torch cannot be imported: {error}; python -c 'import torch' should say the same"
        connection.send((say.ERROR, PlanError.__name__, text))
        os._exit(1)
    from inferload.callers.processes.worker import work

    work(connection, assignment)
    # what torch would do at its end takes most of a second, and nobody needs it
    atexit._run_exitfuncs()  # noqa: SLF001 - a model's own are run, as at any end
    flush()
    os._exit(0)


def load() -> None:
    """Import torch and all that callers need; to collect garbage meanwhile takes an eighth."""
    collects = gc.isenabled()
    gc.disable()
    try:
        import inferload.callers.processes.worker  # noqa: F401
    finally:
        if collects:
            gc.enable()


def _bind_memory(node: int) -> None:
    mask = ctypes.c_ulong(1 << node)
    ctypes.CDLL(None, use_errno=True).syscall(
        _SET_MEMPOLICY, _MPOL_BIND, ctypes.byref(mask), ctypes.c_ulong(64)
    )
