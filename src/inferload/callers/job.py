"""What an executor is given, and what it gives back: a frozen job, and its running callers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from inferload.callers.batching.work import BatchWork
    from inferload.callers.budget import Budget
    from inferload.callers.device_work import DeviceWork
    from inferload.callers.outcome import Outcome
    from inferload.log.arrays import Int32s
    from inferload.log.ring import LogFile
    from inferload.plan.arrivals.clients import Clients
    from inferload.plan.arrivals.schedule import Schedule
    from inferload.targets.base import Target
    from inferload.targets.inputs.call_input import CallInput


# How many warm-up calls of each caller are timed.
FIRST_CALLS = 10
# A range of rows is claimed for about so long.
BLOCK_NS = 1_000_000
# How soon a caller that waits sees that the run was stopped.
STOP_POLL_NS = 50_000_000
# An open loop starts this much after the line is opened, so that its first calls find the callers
# awake.
LEAD_NS = 2_000_000


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

    ``batching``: callers put requests together; ``inputs[caller]`` are then one for each shape of
    a batch. ``clients``: closed loop, those who ask. Either makes ``queued`` requests of the calls,
    each with a row of the log; ``target`` is what is called with ``inputs``.

    ``timeout_ns``: how long a call of the executor ``async`` may take, which is then cancelled.
    ``seed`` draws the calls of which single pieces are timed.

    ``extension``: the compiled one, by which Python callers of a closed loop without devices make
    their calls; ``None``: they make them in Python.

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
    batching: BatchWork | None = None
    clients: Clients | None = None
    seed: int | Sequence[int] = 0
    timeout_ns: int | None = None
    extension: ModuleType | None = None

    @property
    def callers(self) -> int:
        """How many callers run."""
        return len(self.inputs)

    @property
    def open_loop(self) -> bool:
        """Whether calls are due at times fixed beforehand."""
        return self.schedule is not None

    @property
    def queued(self) -> bool:
        """Whether callers serve one queue of requests, alone or in batches."""
        return self.batching is not None or self.clients is not None


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
