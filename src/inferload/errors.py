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

Those that carry a result or a study are in ``records.endings`` and ``studies.records.endings``.
"""

from __future__ import annotations


class InferloadError(Exception):
    """Base of all errors that inferload raises on purpose.

    ``side``: which of two sides failed, ``"a"`` or ``"b"``, where two are compared.
    """

    side: str | None = None


class PlanError(InferloadError, ValueError):
    """What was asked for cannot be run; nothing was started."""


class NativeBuildError(InferloadError):
    """The native callers could not be compiled or loaded on this machine."""


class ResultFormatError(InferloadError, ValueError):
    """A file is not a result that this version of inferload can read."""
