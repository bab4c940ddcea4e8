"""What an executor is given, what it gives back, and how a run is driven through it."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from inferload.call_log import CallFailure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.budget import Budget
    from inferload.call_log import Int32s
    from inferload.executors.device_work import DeviceWork
    from inferload.inputs import CallInput
    from inferload.loads import Schedule
    from inferload.log_file import LogFile
    from inferload.outcome import Outcome
    from inferload.targets.base import Target

# How many warm-up calls of each caller are timed.
FIRST_CALLS = 10
# A range of rows is claimed for about so long.
BLOCK_NS = 1_000_000
# How soon a caller that waits sees that the run was stopped.
STOP_POLL_NS = 50_000_000
# An open loop starts this much after the line is opened, so that its first calls find the callers
# awake.
LEAD_NS = 2_000_000
_OWN_FOLDER = str(Path(__file__).parents[1])
_TORCH_FOLDER = str(Path(getattr(find_spec("torch"), "origin", None) or "torch/__init__.py").parent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run, as an executor needs it.

    ``inputs[caller]`` are the caller's own inputs; ``order`` says which of them each call takes,
    repeated; ``calls`` and ``duration_ns`` are ``None`` where they do not end the run; no call
    starts ``duration_ns`` after the start line.
    ``device_work``: how callers use the devices that calls have work on, if any. Each caller keeps
    copies of up to ``kept_outputs`` outputs.

    Open loop: calls are due by ``schedule``; a run that is ended early has ``drain_ns`` for the
    calls due by then; at most ``watchers`` callers watch for due calls at a time.

    Several processes: ``budget`` holds the calls that ``callers_in_all`` share in a closed loop.
    ``warmup_order``: the inputs of warm-up calls, repeated; in their order if not given.
    ``warmup_limit_ns``: Python callers begin none so long after their first one, but for a second.
    ``cpus[caller]`` are the cores that a caller is held to; none, or all empty: it may run on any.

    ``given``: what the inputs were before any call, to be compared with afterwards; none where that
    is not looked at. ``fresh_inputs``: each call gets a copy of its input of its own.
    ``first_calls``: so many calls the first caller makes even if there are no warm-up calls.
    """

    target: Target
    inputs: Sequence[Sequence[CallInput]]
    order: Int32s
    calls: int | None
    duration_ns: int | None
    warmup_calls: int
    threads_per_call: int
    stop_on_error: bool
    log: LogFile
    device_work: DeviceWork | None = None
    kept_outputs: int = 0
    schedule: Schedule | None = None
    drain_ns: int = 0
    watchers: int = 1
    budget: Budget | None = None
    callers_in_all: int = 0
    cpus: Sequence[Sequence[int]] = ()
    warmup_order: Sequence[int] = ()
    given: Sequence[CallInput] = ()
    fresh_inputs: bool = False
    first_calls: int = 0
    warmup_limit_ns: int | None = None

    @property
    def callers(self) -> int:
        """How many callers run."""
        return len(self.inputs)


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


def exception_words(exception: BaseException) -> str:
    """An exception as its type and its words."""
    return f"{type(exception).__name__}: {exception_text(exception)}".rstrip(": ")


def place_of(exception: BaseException) -> str | None:
    """The innermost line of Python that raised, as ``file.py:12``, unless it is our own.

    Lines of torch count only where there is none of the user's.
    """
    lines: list[tuple[str, int]] = []
    trace = exception.__traceback__
    while trace is not None:
        lines.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    users = [one for one in lines if not one[0].startswith((_OWN_FOLDER, _TORCH_FOLDER))]
    if not lines or (not users and lines[-1][0].startswith(_OWN_FOLDER)):
        return None
    file, number = (users or lines)[-1]
    return f"{file}:{number}"


def _storable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


class Running(Protocol):
    """Callers that have been started."""

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until all callers have warmed up and stand at the start line."""

    def release(self, at_ns: int | None = None) -> int:
        """Let all callers leave the start line; the time of it, monotonic nanoseconds.

        ``at_ns``: a time to come that others agreed on. Callers are awake until then, so that the
        system has spread them over the cores.
        """

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
