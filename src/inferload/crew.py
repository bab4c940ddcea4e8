"""The callers of a run, in this process or in others, as the code that drives a run sees them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from inferload.disturbances import Disturbances

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferload.executors.base import Outcome
    from inferload.loads import Schedule
    from inferload.log_file import LogFile
    from inferload.records import Ending, RunSpec, RunWarning, Verification


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """What is known of the callers of one process before they are started.

    ``spec`` counts the callers of that process. ``load_s`` is how long the model took to load,
    ``convert_s`` to be turned into its form, ``prepare_s`` all until the callers can be started,
    ``process_s`` what starting the process took beside that;
    ``floor_ms`` is what a call that does nothing takes.
    """

    pid: int
    spec: RunSpec
    environment: dict[str, Any]
    on_device: bool
    warnings: tuple[RunWarning, ...]
    prepare_s: float
    load_s: float = 0.0
    convert_s: float = 0.0
    process_s: float = 0.0
    floor_ms: float | None = None
    log_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PartReport:
    """What the callers of one process left behind beside their log.

    ``ending``: how the process ended, where it was not asked to.
    """

    outcome: Outcome
    first_call_ms: float | None = None
    recompiled_graphs: int = 0
    warnings: tuple[RunWarning, ...] = ()
    disturbances: Disturbances = field(default_factory=Disturbances)
    verification: Verification | None = None
    peak_rss_bytes: int | None = None
    verification_by_model: tuple[Verification, ...] = ()
    ending: Ending | None = None


class RunningPart(Protocol):
    """The callers of one process while they call."""

    def claimed_rows(self) -> int:
        """How many rows of the log callers have claimed so far; no other may be read."""

    def fold_to(self, rows: int) -> None:
        """Rows before this have been read: their places in the log may be written again."""

    def end_at(self, rows: int) -> None:
        """Open loop: start no call from row ``rows`` on; those before have the drain time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The callers of one process, and the log that they write."""

    pid: int
    running: RunningPart
    log: LogFile
    schedule: Schedule | None
    callers: int
    inputs: int


class Crew(Protocol):
    """All callers of a run.

    ``nursery_pss_bytes``: the proportional set size of a process that has no callers and from which
    the others were forked, at the start line; ``None`` where there is no such process.
    """

    nursery_pss_bytes: int | None

    @property
    def parts(self) -> Sequence[Part]:
        """The callers of each process; there once they are started."""

    def prepare(self, announce: Callable[[str], None]) -> Sequence[Preparation]:
        """Load the model, check the inputs and compile, without starting a caller.

        Raises:
            InferloadError: the run cannot be had.
        """

    def start(self) -> None:
        """Start the callers; each warms up and waits at the start line.

        Raises:
            PlanError: the machine would not start so many.
        """

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

    def collect(self, *, abandoned: bool) -> Sequence[PartReport]:
        """What each process left behind; ``abandoned``: without waiting for its callers."""
