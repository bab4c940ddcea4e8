"""What asks the command line to end where no run hears it: before a command, and after a run."""

from __future__ import annotations

import atexit
import math
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import Any, NoReturn

from inferload.callers.processes.early import not_early
from inferload.signals import ENDING, PutOff, hear, unhear

EXIT_INTERRUPTED = 130
# How long the program may take to end by itself: what it calls may have swallowed the wish, or not
# return. What sends signals kills 10 s later.
NOTICE_S = 8.0
# How long exit handlers may take, a model's own among them.
EXIT_S = 3.0

# Signals within so long are one wish: of a terminal, and of what started this.
SAME_S = 1.0

#: Entered when the command line starts, and ended when a command does: typer would exit without a
#: word.
until_command = PutOff()


class _Kept:
    """What there is of a run when the command line is interrupted."""

    text = "there is no result"
    watchdog: threading.Timer | None = None
    heard_s = -math.inf


kept = _Kept()


def interrupt(number: int, frame: Any) -> None:
    """Hear a signal: raise ``KeyboardInterrupt``, and end the program if nothing comes of that."""
    del number, frame
    now_s = time.monotonic()
    if now_s < kept.heard_s + SAME_S:
        return  # on its way already
    kept.heard_s = now_s
    if kept.watchdog is None:
        kept.watchdog = threading.Timer(NOTICE_S, _end)
        kept.watchdog.daemon = True
        kept.watchdog.start()
    raise KeyboardInterrupt


def noticed() -> None:
    """The wish was heard by somebody who has something to save."""
    if kept.watchdog is not None:
        kept.watchdog.cancel()
        kept.watchdog = None


class AtOnce:
    """Signals end the program at once while this is entered: there is nothing yet to lose.

    An exception would do harm: torch's initialisers end the process by ``std::terminate``.
    """

    def __enter__(self) -> None:
        self._heard = [number for number in ENDING if hear(number, lambda *_: _end())]

    def __exit__(self, *_: object) -> None:
        for number in self._heard:
            unhear(number)


def leave() -> NoReturn:
    """Say that the program was interrupted, and end it: torch may not be left in the middle."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    noticed()
    not_early()
    guard = threading.Timer(EXIT_S, os._exit, (EXIT_INTERRUPTED,))
    guard.daemon = True
    guard.start()
    _say()
    atexit._run_exitfuncs()  # noqa: SLF001 - as at any end
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(EXIT_INTERRUPTED)


def _end() -> NoReturn:
    _say()
    not_early()
    os._exit(EXIT_INTERRUPTED)


def _say() -> None:
    with suppress(OSError, ValueError, AttributeError, RuntimeError):  # perhaps to nobody
        sys.stderr.write(f"error: interrupted: {kept.text}\n")
        sys.stderr.flush()
