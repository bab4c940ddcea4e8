"""Errors that carry the result of a run that ended early."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferload.errors import InferloadError

if TYPE_CHECKING:
    from inferload.records.result import RunResult


class CallError(InferloadError):
    """The target raised during a call.

    ``__cause__`` is the original exception, where there is one. ``caller`` and ``input`` are the
    numbers of the caller and of the input it was given, where they are known. ``result`` holds
    every call that had finished. ``place`` is the line of the user's code that raised, where it is
    known.
    """

    def __init__(
        self,
        message: str,
        *,
        caller: int | None = None,
        input: int | None = None,
        result: RunResult | None = None,
        place: str | None = None,
    ) -> None:
        super().__init__(message)
        self.caller = caller
        self.input = input
        self.result = result
        self.place = place


class TargetCrashed(InferloadError):  # noqa: N818 - a fact about the target, not an error of ours
    """The target ended the process it ran in: a signal, or an exit.

    ``result`` holds every call that had finished, ``None`` if none was measured yet.
    """

    def __init__(self, message: str, *, result: RunResult | None = None) -> None:
        super().__init__(message)
        self.result = result


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C, SIGTERM or SIGHUP ended a run; ``result`` holds every call that had finished.

    ``abandoned`` is true if calls were given up and callers are still inside of them.
    """

    def __init__(self, message: str, *, result: RunResult, abandoned: bool = False) -> None:
        super().__init__(message)
        self.result = result
        self.abandoned = abandoned
