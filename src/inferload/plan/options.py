"""What was asked of a run: every option in one record, checked before anything is started."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from inferload.errors import PlanError
from inferload.machine.hardware import usable_cores
from inferload.plan.arrivals import stages
from inferload.plan.arrivals.loads import ClosedLoop, Lane, OpenLoop
from inferload.plan.arrivals.schedule import Schedule, models_drawn
from inferload.plan.cores import Place, places, usable_cpus
from inferload.plan.devices import check_names
from inferload.plan.numbers import check_count
from inferload.plan.option_table import DEFAULT_WARMUP_CALLS, EXECUTORS, OPTIONS, Options
from inferload.plan.server import SERVER_TIMEOUT_S
from inferload.stats.limits.limit import Limit, limits_given

if TYPE_CHECKING:
    from pathlib import Path

    from inferload.plan.arrivals.clients import Clients

DEFAULT_TIME_LIMIT_S = 60.0
DEFAULT_CALLS = 1000
# Callers go on warming up for so long at least, and no longer than the run where that is longer.
WARMUP_S = 30.0
#: The way out for models that write to their inputs.
FRESH_INPUTS = (
    "--fresh-inputs (fresh_inputs=True) gives each call a fresh copy, made outside of its times"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions(Options):
    """The options of :func:`inferload.run`, under the same names, and what they come to.

    ``processes`` is ``None`` for callers in this process. ``executor`` is a name, or an
    ``Executor``; ``"processes"`` stands for one process a core and the best callers within.
    ``devices``: processes are put on them in turn.
    ``lanes``: the models of a mix whose callers are dedicated; none where callers are shared.
    ``rank``: which of the ``ranks`` of a cluster these are the options of, and ``local_rank`` which
    of the ``local_ranks`` on its machine; ``calls_of_all`` are those of all ranks.
    ``form``, ``mode`` and ``batch_size``: what model and inputs are turned into beforehand, to be
    kept with the result.
    ``decide``: an open loop ends as soon as its calls say whether these limits are kept.
    ``keep_in``: a folder where the logs are found while they grow, should the run be killed.
    """

    load: ClosedLoop | OpenLoop = field(default_factory=ClosedLoop)
    lanes: tuple[Lane, ...] = ()
    devices: tuple[str, ...] = ()
    rank: int = 0
    ranks: int = 1
    local_rank: int = 0
    local_ranks: int = 1
    calls_of_all: int | None = None
    decide: tuple[Limit, ...] = ()
    of_server: bool = False
    keep_in: Path | None = None

    def checked(self) -> RunOptions:
        """The options with what was left open filled in.

        Raises:
            PlanError: naming the option that cannot be run, and its value.
        """
        if not isinstance(self.load, ClosedLoop | OpenLoop):
            raise PlanError(
                f"load is a {type(self.load).__name__}: give il.ClosedLoop(callers=4) or "
                "il.OpenLoop.poisson(rate_per_s=200, callers=4)"
            )
        self._check_end()
        for row in OPTIONS:
            row.checked(getattr(self, row.name))
        if not isinstance(self.executor, str) and not hasattr(self.executor, "name"):
            raise PlanError(f"executor is {self.executor!r}: choose {', '.join(EXECUTORS)}")
        self._check_callers()
        load = self._load_of_lanes() if self.lanes else self.load
        processes, executor = self.processes, self.executor
        if executor == "processes":
            executor = "auto"
            if processes is None:
                processes = max(int(usable_cores()) // (self.threads_per_call or 1), 1)
        if len(self.devices) > 1 and processes is None:
            processes = len(self.devices)
        self._check_devices()
        calls, duration_s, limit_s = self.calls, self.duration_s, self.time_limit_s
        if calls is None and duration_s is None and self.precision is None:
            calls = None if self.load.ends else DEFAULT_CALLS
            duration_s = stages.length_s(self.load.stages) if self.load.stages else None
        stages.check_beside(self.load.stages, self.duration_s, self.precision, self.warmup)
        if self.precision is not None and limit_s is None:
            limit_s = DEFAULT_TIME_LIMIT_S
        by_time = (self.duration_s or self.precision) and not self.load.stages
        return replace(
            self,
            limit=limits_given(self.limit),
            load=load,
            executor=executor,
            processes=processes,
            calls=calls,
            duration_s=duration_s,
            time_limit_s=limit_s,
            warmup=self.warmup or ("auto" if by_time else "fixed"),
            on_error=self.on_error or ("record" if self.of_server else "stop"),
            timeout_s=self.timeout_s or (SERVER_TIMEOUT_S if self.of_server else None),
        )

    def told(self) -> dict[str, Any]:
        """Those that a result's spec repeats as they were asked for, by name."""
        return {row.name: getattr(self, row.name) for row in OPTIONS if row.told}

    def of_rank(self, rank: int, ranks: int, local_rank: int, local_ranks: int) -> RunOptions:
        """The options of one rank of a cluster, from those of all.

        Calls of an open loop are dealt to all processes of all ranks. A number of calls of a closed
        loop is divided beforehand: ranks do not ask each other while they are measured.

        Raises:
            PlanError: naming the option that ranks cannot have.
        """
        if self.precision is not None:
            raise PlanError(
                "precision is judged while a run goes on, and no rank of a cluster sees the calls "
                "of the others: give duration_s or calls"
            )
        if self.trace is not None:
            raise PlanError(f"a trace is of one process, and there are {ranks} ranks")
        calls = self.calls
        if calls is not None and calls < ranks * self.crew_size:
            raise PlanError(
                f"{calls:,} calls are fewer than {ranks * self.crew_size:,} processes on {ranks} "
                "ranks: ask for more calls"
            )
        if calls is not None and not self.load.open_loop:
            calls = calls // ranks + (rank < calls % ranks)
        return replace(
            self,
            calls=calls,
            calls_of_all=self.calls,
            rank=rank,
            ranks=ranks,
            local_rank=local_rank,
            local_ranks=local_ranks,
        )

    def places(self) -> list[Place]:
        """Where each process of this crew runs, beside those of other ranks on this machine.

        Raises:
            PlanError: there are fewer cores than processes.
        """
        cpus = usable_cpus() if self.pin != "none" else []
        every = places(self.pin, cpus, self.crew_size * self.local_ranks, self.load.callers)
        return every[self.local_rank * self.crew_size :][: self.crew_size]

    def _load_of_lanes(self) -> ClosedLoop | OpenLoop:
        """The load with the callers of all models."""
        for lane in self.lanes:
            check_count(f"the callers of {lane.name}", lane.callers, at_least=1, at_most=10_000)
        callers = sum(lane.callers for lane in self.lanes)
        if self.load.callers not in {1, callers}:
            each = " + ".join(f"{lane.callers} for {lane.name}" for lane in self.lanes)
            raise PlanError(
                f"{self.load.callers} callers were asked for, and the models have {callers} of "
                f"their own ({each}): give one or the other"
            )
        if not isinstance(self.executor, str):
            raise PlanError("an Executor object has no callers for single models: leave it out")
        return replace(self.load, callers=callers)

    def _check_devices(self) -> None:
        check_names(self.devices)
        if self.transfers and self.share_inputs:
            raise PlanError(
                "transfers write to the inputs of each caller, which share_inputs lets callers "
                "share: leave one of them out"
            )
        if self.fresh_inputs and self.share_inputs:
            raise PlanError(
                "fresh_inputs gives each call a copy of its input, and share_inputs lets callers "
                "share them: leave one of them out"
            )
        if self.fresh_inputs and self.transfers:
            raise PlanError(
                "transfers write the tensors of its input anew in each call: leave fresh_inputs "
                "(--fresh-inputs) out, or transfers where inputs hold something else that changes"
            )
        if len(self.devices) > 1 and not isinstance(self.executor, str):
            raise PlanError("an Executor object runs in this process, which has one device")

    def check_devices_used(self) -> None:
        """Refuse devices that no process on this machine would be put on.

        Raises:
            PlanError: naming them all.
        """
        processes, count = self.crew_size * self.local_ranks, len(self.devices)
        if processes < count:
            raise PlanError(
                f"{processes} processes are fewer than {count} devices ({', '.join(self.devices)}):"
                f" ask for {count}, or for fewer devices"
            )

    def device_of(self, process: int) -> str | None:
        """The device of a process of this crew, where some were asked for: one after another."""
        if not self.devices:
            return None
        return self.devices[(self.local_rank * self.crew_size + process) % len(self.devices)]

    def _check_callers(self) -> None:
        if self.processes is None:
            return
        if not isinstance(self.executor, str):
            raise PlanError("an Executor object runs in this process: leave processes out")
        if self.trace is not None and self.processes > 1:
            raise PlanError(
                f"a trace is of one process, and {self.processes} were asked for: trace a run of "
                "one"
            )

    def _check_end(self) -> None:
        ends = {"calls": self.calls, "duration_s": self.duration_s, "precision": self.precision}
        given = {name: value for name, value in ends.items() if value is not None}
        if len(given) > 1:
            both = " and ".join(f"{name}={value!r}" for name, value in given.items())
            count = "both" if len(given) == 2 else "all"
            raise PlanError(f"{both} were {count} given: a run ends by one of them")
        if self.time_limit_s is not None and self.precision is None:
            raise PlanError(
                f"time_limit_s={self.time_limit_s:g} goes with precision, and none was given"
            )

    @property
    def callers_by_lane(self) -> tuple[int, ...]:
        """How many callers of each process serve each queue of it."""
        return tuple(lane.callers for lane in self.lanes) or (self.load.callers,)

    def number_of(self, process: int) -> int:
        """The number of a process of this crew among those of all ranks."""
        return self.rank * self.crew_size + process

    def schedules(self) -> list[list[Schedule | None]]:
        """When calls are due: for each process of this crew and each of its queues.

        Raises:
            PlanError: no call is due in time, or some process or model has none.
        """
        whole = self.schedule()
        if whole is None:
            return [[None] * len(self.callers_by_lane)] * self.crew_size
        every = whole.dealt(self.ranks * self.crew_size, self.seed)
        own = every[self.number_of(0) : self.number_of(self.crew_size)]
        return [self._by_lane(one, self.number_of(place)) for place, one in enumerate(own)]

    def _by_lane(self, schedule: Schedule, number: int) -> list[Schedule | None]:
        """The calls of one process, for each of its queues."""
        if not self.lanes:
            return [schedule]
        weights = [lane.weight for lane in self.lanes]
        owner = models_drawn(weights, len(schedule.times_ns), [self.seed, number])
        found = schedule.divided(owner[: len(schedule.times_ns)], len(weights))
        for lane, own in zip(self.lanes, found, strict=True):
            if not own.calls:
                raise PlanError(
                    f"none of {schedule.calls:,} calls of a process is for {lane.name}, whose "
                    f"share is {lane.weight / sum(weights):.2g}: ask for more calls, or let all "
                    "models share the callers"
                )
        return [*found]

    @property
    def crew_size(self) -> int:
        """How many processes the callers are in."""
        return self.processes or 1

    def clients_of(self, process: int, lane: int) -> Clients | None:
        """The clients of one queue of the process of this number among all, if there are any.

        Raises:
            PlanError: there are too few of them, or models have callers of their own.
        """
        clients = getattr(self.load, "clients", None)
        if clients is None or not isinstance(self.load, ClosedLoop):
            return None
        if self.lanes:
            raise PlanError(
                f"{clients:,} clients ask for any model, and the models have callers of their own: "
                "let all models share the callers"
            )
        return self.load.clients_of(process, self.ranks * self.crew_size, self.seed, lane)

    @property
    def queued(self) -> bool:
        """Whether calls are due before they start: by a schedule, or as clients ask."""
        return self.load.open_loop or getattr(self.load, "clients", None) is not None

    def check_batching(self) -> None:
        """Refuse batches beside what they cannot go with.

        Raises:
            PlanError: naming what to ask for instead.
        """
        if self.batching is not None:
            self.batching.check_beside(queued=self.queued, fresh_inputs=self.fresh_inputs)

    @property
    def limit_s(self) -> float | None:
        """How long calls may be started, where there is such a limit."""
        return self.duration_s if self.precision is None else self.time_limit_s

    @property
    def warmup_limit_s(self) -> float | None:
        """How long after its first call a caller begins more of them to warm up.

        ``None`` where a number of calls was asked for: then they are made, whatever they take.
        """
        if self.warmup != "auto" or self.warmup_calls != DEFAULT_WARMUP_CALLS:
            return None
        return max(self.limit_s or 0.0, WARMUP_S)

    @property
    def drain_s(self) -> float:
        """Open loop: how long after the last call was due the run goes on.

        As long as was asked for, and as a batch of it may be held back.
        """
        held_s = 0.0 if self.batching is None else self.batching.max_delay_s
        return (self.load.drain_s or 0.0) + held_s

    def schedule(self) -> Schedule | None:
        """When each call is due; ``None`` in a closed loop.

        Raises:
            PlanError: no call is due in time, or more calls were asked for than a replay has.
        """
        found = self.load.schedule(self.calls, self.limit_s)
        if found is not None and self.calls is not None and found.calls < self.calls:
            raise PlanError(
                f"{self.calls:,} calls were asked for, and the replay has {found.calls:,}: "
                "ask for no more than that"
            )
        return found
