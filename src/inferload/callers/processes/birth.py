"""Starting a process for a model so that the model finds there what its user's own program has.

Its children have default signal handling, and ``multiprocessing`` is as it was before anything was
started. A Ctrl-C does not reach it: it is in a process group of its own, which ends with the run.
"""

from __future__ import annotations

import multiprocessing.process
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from inferload.callers.processes.early import OrderedProcess
from inferload.callers.processes.orders import die_with
from inferload.machine.caches import keep_what_torch_compiles
from inferload.signals import ENDING, hear, unhear

if TYPE_CHECKING:
    from collections.abc import Callable

# What multiprocessing calls the process that the user started.
_OWN_NAME = "MainProcess"


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth:
    """What a started process is told of its starter.

    ``start_method``: the one that the user's program has chosen for ``multiprocessing``, if any.
    ``leads``: it has a process group of its own.
    """

    parent: int
    start_method: str | None
    leads: bool


class _Self:
    """Whether this process was started by another one of ours: its group is the other's then."""

    was_born = False


class Group:
    """The process group of a started process: the model's own children are in it as well.

    What suspends this process (Ctrl-Z) suspends them until it goes on.
    """

    def __init__(self, leader: int) -> None:
        self._leader = leader
        self._suspends = hear(signal.SIGTSTP, self._suspend)

    def signal(self, number: int) -> None:
        """Send a signal to all that are left in it."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._leader, number)

    def close(self) -> None:
        """Let Ctrl-Z be this process's alone again."""
        if self._suspends:
            self._suspends = False
            unhear(signal.SIGTSTP)

    def _suspend(self, number: int, frame: Any) -> None:
        del number, frame
        self.signal(signal.SIGSTOP)
        before = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # returns when this process is continued
        signal.signal(signal.SIGTSTP, before)
        self.signal(signal.SIGCONT)


def start(target: Callable[..., None], *args: object) -> tuple[OrderedProcess, Group | None]:
    """Start ``target(*args, birth)``, which calls :func:`begin` first, in a process of its own.

    The group is ``None`` where it is that of this process, which was started by another of ours.
    """
    own = multiprocessing.get_start_method(allow_none=True)
    leads = not _Self.was_born
    birth = Birth(parent=os.getpid(), start_method=own, leads=leads)
    process = OrderedProcess(target=target, args=(*args, birth), name=_OWN_NAME)
    try:
        process.start()
    finally:
        choose_start_method(own)  # asking for it, as starting does, is a choice that would stay
    return process, Group(process.pid) if leads and process.pid is not None else None


def choose_start_method(method: str | None) -> None:
    """Have ``multiprocessing`` start processes so; ``None``: nobody has chosen yet."""
    multiprocessing.set_start_method(cast("str", method), force=True)


def begin(birth: Birth) -> None:
    """End with the starter, leave signals to it, and have the model find a process of its own."""
    die_with(birth.parent)
    if birth.leads:
        os.setpgid(0, 0)  # a Ctrl-C goes to the terminal's: the starter hears it, and tells
    _Self.was_born = True
    leave_signals()
    choose_start_method(birth.start_method)
    multiprocessing.process._parent_process = None  # type: ignore[attr-defined] # noqa: SLF001
    keep_what_torch_compiles()


def leave_signals() -> None:
    """Hear the signals that end a process, and do nothing: the starter hears them as well.

    They are not ignored: what ignores a signal hands that on to every program it starts.
    """
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:  # how children ended could not be told
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in ENDING:
        hear(number, _nothing)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


def _nothing(number: int, frame: Any) -> None:
    del number, frame


def flush() -> None:
    """Hand on what the model has printed, to whoever still reads it."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
