"""Every error that inferload raises on purpose.

::

    Exception
    └── InferloadError
        ├── PlanError           the run was refused before any caller started
        ├── CallError           the target raised; carries caller, input and the partial result
        ├── TargetCrashed       the target ended its process; carries the partial result
        ├── NativeBuildError    the native callers could not be compiled or loaded
        └── ResultFormatError   a file is not a result this version can read
    KeyboardInterrupt
    ├── RunInterrupted          Ctrl-C or SIGTERM ended a run; carries the partial result
    └── StudyInterrupted        Ctrl-C or SIGTERM ended a study; carries what was done
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inferload.records import RunResult
    from inferload.studies.files import Study


class InferloadError(Exception):
    """Base of all errors that inferload raises on purpose."""


class PlanError(InferloadError, ValueError):
    """What was asked for cannot be run; nothing was started."""


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


class NativeBuildError(InferloadError):
    """The native callers could not be compiled or loaded on this machine."""


class ResultFormatError(InferloadError, ValueError):
    """A file is not a result that this version of inferload can read."""


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C, SIGTERM or SIGHUP ended a run; ``result`` holds every call that had finished.

    ``abandoned`` is true if calls were given up and callers are still inside of them.
    """

    def __init__(self, message: str, *, result: RunResult, abandoned: bool = False) -> None:
        super().__init__(message)
        self.result = result
        self.abandoned = abandoned


class StudyInterrupted(KeyboardInterrupt):
    """Ctrl-C, SIGTERM or SIGHUP ended a study; ``study`` holds every run that was finished."""

    def __init__(self, message: str, *, study: Study) -> None:
        super().__init__(message)
        self.study = study
