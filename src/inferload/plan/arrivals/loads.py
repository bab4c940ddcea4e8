"""When calls are due: a closed loop, or an open loop whose times are fixed beforehand."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from inferload.errors import PlanError
from inferload.plan.arrivals.clients import THINKS, Clients, clients_drawn
from inferload.plan.arrivals.replays import (
    CAPTURED,
    as_times,
    replay_text,
    schedule_of_times,
    times_of_capture,
    times_of_file,
)
from inferload.plan.arrivals.schedule import Schedule
from inferload.plan.arrivals.stages import check_stages, schedule_of_stages
from inferload.plan.numbers import check_count, check_positive
from inferload.records.stages import MOST_PER_S
from inferload.units import NS_PER_S

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from inferload.log.arrays import Floats, Int64s
    from inferload.records.recording import Recording
    from inferload.records.stages import Stage

# Times drawn one by one; a longer schedule repeats them (80 MB, and hours of most services).
DRAWN_ARRIVALS = 10_000_000
MOST_CLIENTS = 1_000_000
# About 30 years: beyond, nanoseconds no longer fit.
LAST_NS = 10**18
ARRIVALS = ("constant", "poisson", "gamma", "replay")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLoop:
    """Each caller calls again as soon as its last call returned.

    With ``clients`` it is they who ask: each has one request in flight, in one queue that the
    callers serve, and its next one is due as soon as the last one returned, or ``think_s`` later:
    the mean of an ``"exponential"`` time, or ``think="constant"``.

    Raises:
        PlanError: naming the parameter, and its value.
    """

    #: Whether calls are due at times fixed beforehand.
    open_loop: ClassVar[bool] = False
    #: Whether the load comes to an end by itself.
    ends: ClassVar[bool] = False
    drain_s: ClassVar[None] = None
    stages: ClassVar[tuple[Stage, ...]] = ()
    recording: ClassVar[None] = None

    callers: int = 1
    clients: int | None = None
    think_s: float = 0.0
    think: str = "exponential"

    def __post_init__(self) -> None:
        check_count("callers", self.callers, at_least=1, at_most=10_000)
        if self.clients is not None:
            check_count("clients", self.clients, at_least=1, at_most=MOST_CLIENTS)
        if self.think not in THINKS:
            raise PlanError(f"think {self.think!r} is unknown: choose {' or '.join(THINKS)}")
        if self.think_s != 0:
            check_positive("think_s", self.think_s, at_most=1e6)
            if self.clients is None:
                raise PlanError(f"think_s={self.think_s:g} is the time of clients: say how many")

    def __str__(self) -> str:
        if self.clients is None:
            return "closed loop"
        each = f"{self.clients:,} client{'s' * (self.clients > 1)}"
        if not self.think_s:
            return f"closed loop, {each}"
        return f"closed loop, {each}, think time {self.think} {self.think_s * 1e3:,.6g} ms"

    def clients_of(self, number: int, among: int, seed: int, lane: int = 0) -> Clients | None:
        """The clients that one of so many queues has of all, if there are any.

        Raises:
            PlanError: there are fewer clients than queues.
        """
        if self.clients is None:
            return None
        if self.clients < among:
            raise PlanError(
                f"{self.clients:,} clients are fewer than {among:,} queues (of processes, and of "
                "models with callers of their own): ask for more clients"
            )
        own = self.clients // among + (number < self.clients % among)
        return clients_drawn(own, self.think_s, self.think, [seed, number, lane, 1])

    def schedule(self, calls: int | None, duration_s: float | None) -> None:  # noqa: ARG002
        """Nothing: calls are due when callers are free."""
        return

    def at_rate(self, rate_per_s: float, seed: int) -> OpenLoop:
        """An open loop with as many callers."""
        return OpenLoop.poisson(rate_per_s, callers=self.callers, seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OpenLoop:
    """Calls are due at times fixed beforehand, however long earlier calls take.

    The callers serve one first-in-first-out queue: a due call waits only while all of them are
    busy, and its response time counts from when it was due. Nothing is ever re-based. Make one
    with :meth:`constant`, :meth:`poisson`, :meth:`gamma`, :meth:`staged` or :meth:`replay`.

    ``drain_s``: how long after the last call was due the run goes on, which it does at least until
    the next one would be; calls that are queued or still running then are given up, and counted as
    unfinished.
    """

    #: Whether calls are due at times fixed beforehand.
    open_loop: ClassVar[bool] = True

    arrivals: str
    rate_per_s: float | None
    callers: int = 1
    seed: int = 0
    burstiness: float = 1.0
    times_s: Floats | None = None
    stages: tuple[Stage, ...] = ()
    recording: Recording | None = None
    drain_s: float = 30.0

    def __post_init__(self) -> None:
        check_count("callers", self.callers, at_least=1, at_most=10_000)
        check_count("seed", self.seed, at_least=0)
        if self.stages:
            check_stages(self.stages, self.arrivals)
        elif self.times_s is None:
            check_positive("rate_per_s", self.rate_per_s, at_most=MOST_PER_S)
        check_positive("burstiness", self.burstiness, at_most=1e6)
        if self.drain_s != 0:
            check_positive("drain_s", self.drain_s, at_most=1e9)
        if self.arrivals not in ARRIVALS:
            raise PlanError(f"arrivals {self.arrivals!r} are unknown: choose {', '.join(ARRIVALS)}")

    @property
    def ends(self) -> bool:
        """Whether the load comes to an end by itself: a replay, or stages."""
        return self.times_s is not None or bool(self.stages)

    def at_rate(self, rate_per_s: float, seed: int) -> OpenLoop:  # noqa: ARG002
        """The same arrivals at another rate; ``seed`` is for loads that draw none.

        Raises:
            PlanError: the load has rates of its own.
        """
        if self.ends:
            own = "stages have their" if self.stages else "a replay has its"
            raise PlanError(f"{rate_per_s:g}/s is asked for, and {own} own rate: give one of them")
        return replace(self, rate_per_s=rate_per_s)

    @classmethod
    def constant(cls, rate_per_s: float, *, callers: int = 1, drain_s: float = 30.0) -> OpenLoop:
        """A call every ``1 / rate_per_s`` seconds, the first at the start line."""
        return cls(arrivals="constant", rate_per_s=rate_per_s, callers=callers, drain_s=drain_s)

    @classmethod
    def poisson(
        cls, rate_per_s: float, *, callers: int = 1, seed: int = 0, drain_s: float = 30.0
    ) -> OpenLoop:
        """Independent users: exponential times between calls."""
        return cls(
            arrivals="poisson", rate_per_s=rate_per_s, callers=callers, seed=seed, drain_s=drain_s
        )

    @classmethod
    def gamma(
        cls,
        rate_per_s: float,
        *,
        burstiness: float,
        callers: int = 1,
        seed: int = 0,
        drain_s: float = 30.0,
    ) -> OpenLoop:
        """Gamma times between calls, of shape ``burstiness``: 1 is Poisson, less comes in bursts.

        The coefficient of variation of the times between calls is 1 / sqrt(burstiness).
        """
        return cls(
            arrivals="gamma",
            rate_per_s=rate_per_s,
            burstiness=burstiness,
            callers=callers,
            seed=seed,
            drain_s=drain_s,
        )

    @classmethod
    def staged(
        cls,
        stages: Sequence[Stage],
        *,
        arrivals: str = "poisson",
        callers: int = 1,
        seed: int = 0,
        drain_s: float = 30.0,
    ) -> OpenLoop:
        """A rate that changes: one stage after another, ``"poisson"`` or ``"constant"`` in each.

        The run lasts as long as its stages, if no earlier end is given; a later one is refused.
        """
        if not isinstance(stages, Iterable) or not (stages := tuple(stages)):
            raise PlanError("there are no stages: give il.Stage(rate_per_s=50, duration_s=10)")
        return cls(
            arrivals=arrivals,
            rate_per_s=None,
            stages=stages,
            callers=callers,
            seed=seed,
            drain_s=drain_s,
        )

    @classmethod
    def replay(
        cls,
        arrivals_s: Sequence[float] | Floats | str | os.PathLike[str],
        *,
        callers: int = 1,
        speed: float = 1.0,
        drain_s: float = 30.0,
    ) -> OpenLoop:
        """Times that were recorded: seconds, ascending, or a file of them.

        The first is the start line, whatever its value. ``speed`` 2 replays twice as fast. A file
        has one time a line, or is CSV with the times in its first column; one line of headings is
        skipped. Of a file of ``inferload.capture`` they are when its calls came, and each call
        takes the input that came with its time, if no other inputs are given.

        Raises:
            PlanError: the file cannot be read, or the times are not finite and ascending.
        """
        check_positive("speed", speed, at_most=1e9)
        recording = None
        if isinstance(arrivals_s, str | Path) or hasattr(arrivals_s, "__fspath__"):
            path = Path(arrivals_s)
            if path.suffix == CAPTURED:
                found, recording = times_of_capture(path, speed)
            else:
                found = times_of_file(path)
        else:
            found = as_times(arrivals_s)
        times = (found - found[0]) / speed
        if times[-1] * NS_PER_S > LAST_NS:
            raise PlanError(f"at speed {speed:g} the last call is due after {times[-1]:g} s")
        return cls(
            arrivals="replay",
            rate_per_s=float((len(times) - 1) / times[-1]) if times[-1] > 0 else None,
            callers=callers,
            times_s=times,
            recording=recording,
            drain_s=drain_s,
        )

    def __str__(self) -> str:
        if self.stages:
            more = f" and {len(self.stages) - 3} more" if len(self.stages) > 4 else ""
            shown = self.stages[: 3 if more else None]
            return f"open loop, {self.arrivals} in stages: {', '.join(map(str, shown))}{more}"
        shape = f" (burstiness {self.burstiness:g})" if self.arrivals == "gamma" else ""
        rate = "" if self.rate_per_s is None else f" {self.rate_per_s:,.6g}/s"
        if self.recording is not None:
            return f"open loop, {replay_text(self.recording)}{rate}"
        return f"open loop, {self.arrivals}{shape}{rate}"

    def schedule(self, calls: int | None, duration_s: float | None) -> Schedule:
        """All times of a run of so many calls, or so many seconds; a longer run has the same first.

        Raises:
            PlanError: no call is due in that time.
        """
        if self.times_s is not None:
            return schedule_of_times(self.times_s, calls, duration_s, self.recording)
        if self.stages:
            return schedule_of_stages(self.stages, self.arrivals, self.seed, calls, duration_s)
        wanted = calls if calls is not None else self._most_calls(duration_s or 0.0)
        drawn = self._drawn(min(wanted, DRAWN_ARRIVALS) + 1)
        times, period_ns = drawn[:-1], max(int(drawn[-1] - drawn[0]), 1)
        found = Schedule(times_ns=times, period_ns=period_ns, calls=wanted, span_ns=0)
        found = replace(found, span_ns=found.due_ns(wanted))
        if calls is None:
            due = found.due_by(int((duration_s or 0.0) * NS_PER_S) - 1)
            if due == 0:
                raise PlanError(
                    f"no call is due within {duration_s:g} s at {self.rate_per_s:g}/s: "
                    "run longer, or raise the rate"
                )
            span_ns = int((duration_s or 0.0) * NS_PER_S)
            found = Schedule(times_ns=times[:due], period_ns=period_ns, calls=due, span_ns=span_ns)
        if found.end_ns >= LAST_NS:
            raise PlanError(
                f"at {self.rate_per_s:g}/s the last of {found.calls:,} calls is due in more than "
                "30 years: raise the rate"
            )
        return found

    @property
    def _mean_ns(self) -> float:
        return NS_PER_S / (self.rate_per_s or MOST_PER_S)

    @property
    def _even(self) -> bool:
        return self.arrivals == "constant"

    def _most_calls(self, duration_s: float) -> int:
        """More calls than will be due: the mean number, 8 deviations of it, and some."""
        mean = duration_s * NS_PER_S / self._mean_ns
        spread = 0.0 if self._even else 8 * math.sqrt(mean / min(self.burstiness, 1.0))
        return int(mean + spread + 10 / min(self.burstiness, 1.0))

    def _drawn(self, count: int) -> Int64s:
        """Draw ``count`` times, int64 nanoseconds from the start line."""
        if self._even:
            times = np.arange(count) * self._mean_ns
        else:
            generator = np.random.default_rng(self.seed)
            if self.arrivals == "poisson":
                between = generator.exponential(self._mean_ns, count)
            else:
                between = generator.gamma(self.burstiness, self._mean_ns / self.burstiness, count)
            times = np.cumsum(between)
        drawn: Int64s = np.rint(np.minimum(times, float(LAST_NS))).astype(np.int64)
        return drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """Callers that call one model of a mix and no other, and its weight among the models."""

    name: str
    callers: int
    weight: float
