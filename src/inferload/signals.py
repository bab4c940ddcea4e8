"""Ctrl-C and SIGTERM: put off where they would do harm, and told to a run.

The first lets the callers of a run finish, the second does not wait.
"""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self


class PutOff:
    """Signals are only noted while this is entered, and come when it is left.

    For where they would be swallowed or do harm: torch's initialisers end the process by
    ``std::terminate``, and a process that was just started must be known before anything is raised.
    Only the main thread can do so; in any other nothing is done.
    """

    def __init__(self) -> None:
        self._came: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Hear signals again, also one that came; nothing the second time."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
        came, self._came = self._came, None
        if came is not None:
            signal.raise_signal(came)

    def _note(self, number: int, frame: Any) -> None:
        del frame
        self._came = number


class StopSignals:
    """Watches for SIGINT and SIGTERM while it is entered.

    The first signal calls ``stop``. Another one raises ``KeyboardInterrupt`` while
    ``may_interrupt`` is true, and is ignored when it is not: what is being collected then is kept.
    Signals that come less than ``apart_s`` after the first are the same wish.
    Only the main thread can watch for signals; in any other nothing is done.
    """

    def __init__(self, apart_s: float = 0.0) -> None:
        self.received: list[str] = []
        self._apart_s = apart_s
        self._first_s = 0.0
        self.stop: Callable[[], None] = lambda: None
        self.may_interrupt = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

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
