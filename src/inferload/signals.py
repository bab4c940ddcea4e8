"""Signals that ask a program to end: put off where they would do harm, and told to a run.

The first lets the callers of a run finish, the second does not wait, and nor does time. A process
that is forked meanwhile, such as a worker of a model's own pool, has the handlers of before.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

#: Ctrl-C, what systems end services with, and the end of a terminal.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# For each signal that something of ours hears: what heard it before, and then ours, innermost last.
_heard: dict[int, list[Any]] = {}


def hear(number: int, handler: Callable[[int, Any], object]) -> bool:
    """Have ``handler`` hear a signal until :func:`unhear`; whether it does.

    SIGHUP and SIGTSTP stay ignored where they are (``nohup``), and only the main thread can.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    before = signal.getsignal(number)
    if before is None:  # not Python's: it could not be set again
        return False
    if before is signal.SIG_IGN and number in {signal.SIGHUP, signal.SIGTSTP}:
        return False
    stack = _heard.get(number)
    if not stack or stack[-1] != before:  # the program has set another one meanwhile
        stack = _heard[number] = [before]
    stack.append(handler)
    signal.signal(number, handler)
    return True


def unhear(number: int) -> None:
    """Have heard a signal what heard it before the last :func:`hear`."""
    stack = _heard[number]
    stack.pop()
    signal.signal(number, stack[-1])
    if len(stack) == 1:
        del _heard[number]


def _as_before() -> None:
    """In a process that was just forked: a SIGTERM ends it, as it would without us."""
    for number, stack in _heard.items():
        if signal.getsignal(number) == stack[-1]:
            signal.signal(number, stack[0])
    _heard.clear()


class _Forking(threading.local):
    """The signals that the forking thread had blocked."""

    mask: set[Any] | None = None


_forking = _Forking()


def _before_fork() -> None:
    # one that comes to the child before it has the handlers of before would be lost to it
    _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING) if _heard else None


def _after_fork() -> None:
    mask, _forking.mask = _forking.mask, None
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _in_fork() -> None:
    _as_before()
    _after_fork()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_fork)


class PutOff:
    """Signals are only noted while this is entered, and come when it is left.

    For where they would be swallowed or do harm: torch's initialisers end the process by
    ``std::terminate``, and a process that was just started must be known before anything is raised.
    Only the main thread can do so; in any other nothing is done.
    """

    def __init__(self) -> None:
        self.came: int | None = None
        self._heard: list[int] = []

    def __enter__(self) -> Self:
        for number in ENDING:
            if hear(number, self._note):
                self._heard.append(number)
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Hear signals again, also one that came; nothing the second time."""
        self.drop()
        came, self.came = self.came, None
        if came is not None:
            signal.raise_signal(came)

    def drop(self) -> None:
        """Hear signals again, but none that came."""
        while self._heard:
            unhear(self._heard.pop())

    def _note(self, number: int, frame: Any) -> None:
        del frame
        self.came = number


class StopSignals:
    """Watches for SIGINT, SIGTERM and SIGHUP while it is entered.

    The first signal calls ``stop``. Another one raises ``KeyboardInterrupt`` while
    ``may_interrupt`` is true, and is ignored when it is not: what is being collected then is kept.
    Signals that come less than ``apart_s`` after the first are the same wish. ``then`` takes over
    when this is left, without a moment in which a signal would be heard by neither.
    Only the main thread can watch for signals; in any other nothing is done.
    """

    def __init__(self, apart_s: float = 0.0, then: PutOff | None = None) -> None:
        self.received: list[str] = []
        self._apart_s = apart_s
        self._then = then
        self._first_s = 0.0
        self.stop: Callable[[], None] = lambda: None
        self.may_interrupt = False
        self._heard: list[int] = []

    def __enter__(self) -> Self:
        if self._then is not None:
            self._then.__enter__()
        for number in ENDING:
            if hear(number, self._handle):
                self._heard.append(number)
        return self

    def __exit__(self, *_: object) -> None:
        while self._heard:
            unhear(self._heard.pop())

    def waited_s(self) -> float:
        """How long ago the first signal came; 0 if none did."""
        return time.monotonic() - self._first_s if self.received else 0.0

    def _handle(self, number: int, frame: Any) -> None:
        del frame
        now = time.monotonic()
        if self.received and now - self._first_s < self._apart_s:
            return
        self._first_s = self._first_s or now
        self.received.append(signal.Signals(number).name)
        self.stop()
        if len(self.received) > 1 and self.may_interrupt:
            raise KeyboardInterrupt
