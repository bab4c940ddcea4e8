"""Ctrl-C and SIGTERM during a run: the first lets the callers finish, the second does not wait."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def stopping_signals(stop: Callable[[], None]) -> Iterator[list[str]]:
    """Call ``stop`` at the first SIGINT or SIGTERM; gives a list that the signal's name joins.

    A second signal raises ``KeyboardInterrupt``. Only the main thread can watch for signals;
    in any other nothing is done.
    """
    received: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def handle(number: int, frame: Any) -> None:
        del frame
        received.append(signal.Signals(number).name)
        if len(received) > 1:
            raise KeyboardInterrupt
        stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
