"""What an executor is given, what it gives back, and how a run is driven through it."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from inferload.call_log import CallFailure

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from inferload.call_log import Int32s
    from inferload.inputs import CallInput
    from inferload.loads import Schedule
    from inferload.log_file import LogFile
    from inferload.targets.base import Target

# A model that fails in ever new words must not fill the memory: the last entry takes the rest.
DISTINCT_ERRORS = 256
# How many warm-up calls of each caller are timed.
FIRST_CALLS = 10
# An open loop starts this much after the line is opened, so that its first calls find the callers
# awake.
LEAD_NS = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run, as an executor needs it.

    ``inputs[caller]`` are the caller's own inputs; ``order`` says which of them each call takes,
    repeated; ``calls`` and ``duration_ns`` are ``None`` where they do not end the run; no call
    starts ``duration_ns`` after the start line.
    ``synchronize`` are the devices whose work must be finished before a call is. Each caller keeps
    copies of up to ``kept_outputs`` outputs.

    Open loop: calls are due by ``schedule``; a run that is ended early has ``drain_ns`` for the
    calls due by then; at most ``watchers`` callers watch for due calls at a time.
    """

    target: Target
    inputs: Sequence[Sequence[CallInput]]
    order: Int32s
    calls: int | None
    duration_ns: int | None
    warmup_calls: int
    threads_per_call: int
    stop_on_error: bool
    synchronize: tuple[torch.device, ...]
    log: LogFile
    kept_outputs: int = 0
    schedule: Schedule | None = None
    drain_ns: int = 0
    watchers: int = 1

    @property
    def callers(self) -> int:
        """How many callers run."""
        return len(self.inputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstFailure:
    """The exception that the target raised first."""

    exception: BaseException
    caller: int
    input: int
    warming_up: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the callers left behind beside the log.

    ``first_calls_ns[caller]`` are the durations of its first warm-up calls; ``run_delay_ns`` is
    how long all callers together stood in run queues; ``log_was_full``: callers waited for rows of
    the log to be read. ``stopped_ns``: when the run was stopped before its end, by the callers'
    clock. ``kept[caller]`` are pairs of an input's number and what was returned.
    """

    claimed_rows: int
    first_calls_ns: Sequence[Sequence[int]]
    errors: tuple[CallFailure, ...]
    first_failure: FirstFailure | None
    disk_full: bool
    stopped_ns: int | None = None
    run_delay_ns: int = 0
    log_was_full: bool = False
    kept: Sequence[Sequence[tuple[int, Any]]] = field(default=(), repr=False)


def exception_text(exception: BaseException) -> str:
    """The words of an exception, whatever its ``__str__`` does, as text that UTF-8 can hold."""
    try:
        text = str(exception)
    except BaseException as error:  # noqa: BLE001 - a model's exception may do anything
        text = f"(its text cannot be had: str() raised {type(error).__name__})"
    return _storable(text)


def call_failure(exception: BaseException) -> CallFailure:
    """What the log keeps of an exception."""
    return CallFailure(
        type=type(exception).__name__,
        message=exception_text(exception),
        traceback=_storable("".join(traceback.format_exception(exception))),
    )


def _storable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


class Running(Protocol):
    """Callers that have been started."""

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until all callers have warmed up and stand at the start line."""

    def release(self) -> int:
        """Let all callers leave the start line; the time of it, monotonic nanoseconds."""

    def wait_done(self, timeout_s: float) -> bool:
        """Wait until every caller has finished."""

    def now_ns(self) -> int:
        """The time by the callers' clock."""

    def stop(self) -> None:
        """Let each caller finish the call it is in, and no more."""

    def end_at(self, rows: int) -> None:
        """Open loop: start no call from row ``rows`` on; those before have the drain time."""

    def fold_to(self, rows: int) -> None:
        """Rows before this have been read: their places in the log may be written again."""

    def join(self) -> None:
        """Wait for the callers to end."""

    def claimed_rows(self) -> int:
        """How many rows of the log callers have claimed so far; no other may be read."""

    def outcome(self) -> Outcome:
        """What is known so far; complete after :meth:`join`."""


class Executor(Protocol):
    """Runs the callers of a job."""

    name: str

    def start(self, job: Job) -> Running:
        """Start the callers; each warms up and waits at the start line."""
