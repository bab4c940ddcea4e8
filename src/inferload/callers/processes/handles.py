"""Processes as the system has them: a child of this process, or of the nursery it started."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, Protocol

from inferload.callers.processes.entry import BORN

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from inferload.callers.processes.early import OrderedProcess


class Handle(Protocol):
    """A started process."""

    @property
    def pid(self) -> int | None:
        """Its number for the system; ``None`` until it is born."""

    @property
    def exitcode(self) -> int | None:
        """How it ended, minus the signal that ended it; ``None`` while it runs."""

    @property
    def sentinel(self) -> Any:
        """What becomes readable when it may have ended."""

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended."""

    def kill(self) -> None:
        """End it."""


class Nursery:
    """The process that forks those with callers, as its starter sees it."""

    def __init__(self, process: OrderedProcess, connection: Connection, children: int) -> None:
        self.process = process
        self.connection = connection
        self.children = [NurseryChild(self) for _ in range(children)]

    def listen(self) -> None:
        """Hear which children were born, and which have ended."""
        gone = self.process.exitcode
        with suppress(EOFError, OSError):
            while self.connection.poll():
                word, number, value = self.connection.recv()
                if word == BORN:
                    self.children[number].pid = value
                else:
                    self.children[number].ended_with = value
        for child in self.children:
            if gone is not None and child.ended_with is None:
                child.ended_with = gone  # children do not outlive their nursery


class NurseryChild:
    """A process that the nursery forked."""

    def __init__(self, nursery: Nursery) -> None:
        self._nursery = nursery
        self.pid: int | None = None
        self.ended_with: int | None = None

    @property
    def exitcode(self) -> int | None:
        """How it ended."""
        self._nursery.listen()
        return self.ended_with

    @property
    def sentinel(self) -> Any:
        """What the nursery says."""
        return self._nursery.connection

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.exitcode is None:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            wait([self._nursery.connection, self._nursery.process.sentinel], left)

    def kill(self) -> None:
        """End it, or the nursery before it bears it."""
        if self.pid is None:
            self._nursery.process.kill()
        elif self.exitcode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
