"""The callers of a run, in this process or in others, as the code that drives a run sees them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from inferload.callers.outcome import Outcome  # noqa: TC001 - pydantic reads these records
from inferload.log.merge import LogPlace, merged
from inferload.machine.disturbances import Disturbances
from inferload.records.devices import (
    DeviceInfo,  # noqa: TC001
    DeviceMemory,  # noqa: TC001
)
from inferload.records.figures import (
    Ending,  # noqa: TC001
    RunWarning,  # noqa: TC001
    Verification,  # noqa: TC001
)
from inferload.records.server import ServerSeen  # noqa: TC001
from inferload.records.spec import RunSpec  # noqa: TC001

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferload.log.calls import CallLog
    from inferload.log.ring import LogFile
    from inferload.plan.arrivals.schedule import Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """What is known of the callers of one process before they are started.

    ``spec`` counts the callers of that process. ``load_s`` is how long the model took to load,
    ``convert_s`` to be turned into its form, ``prepare_s`` all until the callers can be started,
    ``process_s`` what starting the process took beside that;
    ``floor_ms`` is what a call that does nothing takes, on a device ``floor_by_hand_ms`` what it
    takes in a loop by hand. ``devices`` are those that calls have work on, ``columns``: the
    optional ones that the log of each lane has.
    """

    pid: int
    spec: RunSpec
    environment: dict[str, Any]
    devices: tuple[DeviceInfo, ...] = ()
    warnings: tuple[RunWarning, ...]
    prepare_s: float
    load_s: float = 0.0
    convert_s: float = 0.0
    process_s: float = 0.0
    floor_ms: float | None = None
    floor_by_hand_ms: float | None = None
    log_bytes: int = 0
    columns: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PartReport:
    """What the callers of one lane left behind beside their log.

    What is the process's and not the lane's stands in the report of its first lane alone: compiled
    graphs, disturbances, peak memory, also of devices, ``seen``: what it saw of servers, and
    ``ending``: how the process ended, where it was not asked to. Callers and inputs are numbered
    through the lanes of the process.
    """

    outcome: Outcome
    first_call_ms: float | None = None
    recompiled_graphs: int = 0
    warnings: tuple[RunWarning, ...] = ()
    disturbances: Disturbances = field(default_factory=Disturbances)
    verification: Verification | None = None
    peak_rss_bytes: int | None = None
    verification_by_model: tuple[Verification, ...] = ()
    device_memory: tuple[DeviceMemory, ...] = ()
    ending: Ending | None = None
    seen: tuple[ServerSeen, ...] = ()


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
    """The callers of one lane of one process, and the log that they write.

    ``queued``: its calls are due before they start, by a ``schedule`` or as clients ask. A lane is
    a queue and the callers that serve it: one for each model with callers of its own, else one in
    all. ``process`` is the number of the process in its crew; ``place`` says where its
    callers and inputs stand among those of the crew, ``inputs`` how many are its own.
    """

    process: int
    pid: int
    running: RunningPart
    log: LogFile
    schedule: Schedule | None
    queued: bool
    place: LogPlace
    inputs: int


def places_of(spec: RunSpec, process: int) -> list[LogPlace]:
    """Where the lanes of one process stand, in a run of processes that are all like ``spec``'s."""
    first_caller = process * sum(spec.callers_by_lane)
    found = []
    for lane, callers in enumerate(spec.callers_by_lane):
        first_input = spec.models[lane].first_input if len(spec.callers_by_lane) > 1 else 0
        found.append(LogPlace(callers=callers, first_caller=first_caller, first_input=first_input))
        first_caller += callers
    return found


def merged_parts(parts: Sequence[Part], logs: Sequence[CallLog]) -> CallLog:
    """The logs of all parts as one."""
    return merged(
        [(log, part.place) for log, part in zip(logs, parts, strict=True)],
        [part.place.callers for part in parts if part.process == parts[0].process],
        open_loop=parts[0].queued,
        inputs=max(part.place.first_input + part.inputs for part in parts),
    )


class Observer(Protocol):
    """What a run tells while it goes on."""

    def stage(self, text: str) -> None:
        """The run has come to another stage."""

    def progress(self, finished_calls: int, elapsed_s: float) -> None:
        """So many calls have finished; called every 0.1 s while calls are measured."""


class Crew(Protocol):
    """All callers of a run.

    ``nursery_pss_bytes``: the proportional set size of a process that has no callers and from which
    the others were forked, at the start line; ``None`` where there is no such process.
    """

    @property
    def nursery_pss_bytes(self) -> int | None:
        """See above."""

    @property
    def parts(self) -> Sequence[Part]:
        """The lanes of each process, one process after another; there once they are started."""

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

    def warmed(self) -> tuple[int, int] | None:
        """Of how many warm-up calls how many were made so far, the latter first, where known."""

    def agreed_start(self, observer: Observer, at_line: Callable[[], None]) -> int | None:
        """When to release the callers, where others have a say in it; else ``None``.

        ``at_line``: is called once all callers of the run stand at the start line, by whoever is
        the first to know.

        Raises:
            InferloadError: others cannot start.
        """

    def release(self, at_ns: int | None = None) -> int:
        """Let all callers leave the start line; the time of it, monotonic nanoseconds.

        ``at_ns``: a time to come at which they leave it.
        """

    def wait_done(self, timeout_s: float) -> bool:
        """Wait until every caller has finished."""

    def now_ns(self) -> int:
        """The time by the callers' clock."""

    def stop(self) -> None:
        """Let each caller finish the call it is in, and no more."""

    def collect(self, *, abandoned: bool) -> Sequence[PartReport]:
        """What each part left behind; ``abandoned``: without waiting for its callers."""
