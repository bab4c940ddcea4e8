"""Work in the main thread that must come to an end: an alarm raises in the middle of it."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from inferload.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Iterator

# What raises may be swallowed by a destructor or a callback; then it is raised again.
_AGAIN_S = 1.0


class _TimeIsUp(BaseException):
    """Not an ``Exception``: compilers catch those and go on in another way."""


@contextmanager
def at_most(seconds: float | None, what: str) -> Iterator[None]:
    """Let what is entered take at most so many seconds; ``None``: as long as it takes.

    Only the main thread can be interrupted so; in any other there is no limit.

    Raises:
        PlanError: it took longer; says ``what`` did.
    """
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def raise_it(number: int, frame: Any) -> None:
        del number, frame
        raise _TimeIsUp

    before = signal.signal(signal.SIGALRM, raise_it)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_S)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except _TimeIsUp:
        raise PlanError(
            f"{what} had not come to an end after {seconds:g} s (--timeout {seconds:g}s bounds it "
            "as it bounds a call): give it longer, or leave the timeout out"
        ) from None
    finally:
        signal.signal(signal.SIGALRM, before)
