"""The crew of one rank, in step with those of the others."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, cast

from inferload.errors import InferloadError
from inferload.runs.cluster import words
from inferload.runs.cluster.clock import answer_time, is_asked
from inferload.runs.cluster.link import StoreLostError, wait_a_look
from inferload.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferload.callers.crew import Crew, Observer, Part, PartReport, Preparation
    from inferload.runs.cluster.link import Link
    from inferload.runs.cluster.members import Member, Members

# From agreeing on a time until then: every rank looks at the store twice, and wakes its callers.
LEAD_S = 0.2
LEAD_LOOKS = 4
# How often it is said whom the others wait for.
ANNOUNCE_S = 2.0
# How often it is looked at whether another rank wants all to stop; less often with many ranks.
STOP_LOOK_S = 0.2
_ALIKE = (
    "target",
    "form",
    "load",
    "callers",
    "drain_s",
    "duration_s",
    "warmup",
    "inputs",
    "items_per_input",
    "fresh_inputs",
    "seed",
    "on_error",
    "verify",
    "models",
    "more",
)


class RankCrew:
    """A crew that starts when all ranks are ready, and stops when one of them asks for it.

    ``members`` is the first rank's view of the others; the others have none.
    """

    def __init__(
        self,
        crew: Crew,
        link: Link,
        own: Member,
        members: Members | None,
        *,
        stop_on_error: bool,
    ) -> None:
        self._crew = crew
        self._stop_on_error = stop_on_error
        self._link = link
        self._own = own
        self._members = members
        self._stopped = False
        self._plan: dict[str, object] = {}
        self._next_look_s = 0.0
        #: How long after the agreed time the callers were released, and how sure that is.
        self.late_ms = 0.0
        self.clock_error_ms = 0.0
        self.now_ns: Callable[[], int] = crew.now_ns
        self.wait_ready = crew.wait_ready
        self.warmed = crew.warmed

    @property
    def nursery_pss_bytes(self) -> int | None:
        """That of this rank."""
        return self._crew.nursery_pss_bytes

    @property
    def parts(self) -> Sequence[Part]:
        """Those of this rank."""
        return self._crew.parts

    def prepare(self, announce: Callable[[str], None]) -> Sequence[Preparation]:
        """Prepare the crew of this rank."""
        ready = self._crew.prepare(announce)
        self._plan = plan_of(ready)
        return ready

    def start(self) -> None:
        """Start the callers of this rank."""
        self._crew.start()

    def agreed_start(self, observer: Observer, at_line: Callable[[], None]) -> int | None:
        """Wait until all ranks stand at the start line, and agree on a time."""
        link = self._link
        link.say(words.ready(link.rank), json.dumps(self._plan).encode())
        link.count(words.READY, 1)
        first = FirstRank(link)
        announced = time.monotonic()
        while not link.stop_asked and not self._crew.wait_done(0):
            if self._members is None:
                if (said := link.heard(words.START)) is not None:
                    return self._start_of(json.loads(said))
                if link.heard(words.OVER) is not None:
                    raise FleetEndedError
                if is_asked(link):
                    answer_time(link, time.perf_counter_ns)
                if (why := first.lost()) is not None:
                    raise LostBeforeStartError(f"rank 0 {why}, and the run had not begun")
            elif self._members.all_ready():
                at_line()
                return self._agree(self._members)
            elif time.monotonic() > announced + ANNOUNCE_S:
                announced = time.monotonic()
                self._members.announce_missing(observer)
            wait_a_look(link)
        link.ask_stop()  # a caller of this rank has ended already: the others need not begin
        return None

    def _agree(self, members: Members) -> int:
        members.check_alike(self._plan)
        members.ask_clocks(time.perf_counter_ns)
        lead_s = LEAD_S + LEAD_LOOKS * self._link.look_s
        start_ns = time.perf_counter_ns() + int(lead_s * 1e9)
        offsets = {clock: [one.ahead_ns, one.error_ns] for clock, one in members.offsets.items()}
        self._link.say(words.START, json.dumps({"at_ns": start_ns, "clocks": offsets}).encode())
        return start_ns

    def _start_of(self, said: dict[str, object]) -> int | None:
        clocks, at_ns = said["clocks"], said["at_ns"]
        if not isinstance(clocks, dict) or not isinstance(at_ns, int):
            raise TypeError("the start is not what a first rank says")
        if self._own.clock not in clocks:
            # nobody on this machine answered in time: the lead is as long as a look takes
            self.clock_error_ms = 1e3 * (LEAD_S + LEAD_LOOKS * self._link.look_s)
            return None
        ahead_ns, error_ns = clocks[self._own.clock]
        self.clock_error_ms = error_ns / 1e6
        return int(at_ns + ahead_ns)

    def release(self, at_ns: int | None = None) -> int:
        """Let the callers of this rank leave the start line at the agreed time."""
        now_ns = time.perf_counter_ns()
        if at_ns is not None and now_ns > at_ns:
            self.late_ms = (now_ns - at_ns) / 1e6
        return self._crew.release(at_ns)

    def wait_done(self, timeout_s: float) -> bool:
        """Wait until every caller of this rank has finished."""
        with suppress(StoreLostError):  # what is measured here does not need the store
            self._look_at_others()
        if self._link.stop_asked and not self._stopped:
            self.stop()
        return self._crew.wait_done(timeout_s)

    def _look_at_others(self) -> None:
        now_s = time.monotonic()
        if now_s < self._next_look_s:
            return
        self._next_look_s = now_s + max(STOP_LOOK_S, self._link.look_s)
        if self._link.heard(words.STOP) is not None:
            self._link.stop_asked = True
        if self._members is not None:
            self._members.look()

    def stop(self) -> None:
        """Let each caller of all ranks finish the call it is in, and no more."""
        self._stopped = True
        self._link.ask_stop()
        self._crew.stop()

    def collect(self, *, abandoned: bool) -> Sequence[PartReport]:
        """What this rank left behind; what ended it ends the others."""
        reports = self._crew.collect(abandoned=abandoned)
        if abandoned or (self._stop_on_error and any(map(_has_ended_early, reports))):
            self._link.ask_stop()
            with suppress(StoreLostError):  # at once: the others go on calling until they hear it
                self._link.say(words.STOP)
        return reports


class FleetEndedError(Exception):
    """The first rank has ended the run before it began."""


class LostBeforeStartError(InferloadError):
    """The first rank is lost, and the run has not begun."""


class FirstRank:
    """Whether the first rank is still heard of, as another one sees it."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._beats = 0
        self._changed_s = time.monotonic()
        self._next_s = 0.0

    def lost(self) -> str | None:
        """How it was lost, if it was."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return None
        self._next_s = now_s + self._link.waits.beat_s
        beats = self._link.count(words.beat(0))
        if beats != self._beats:
            self._beats, self._changed_s = beats, now_s
        waits = self._link.waits
        if now_s - self._changed_s > (waits.lost_s if beats else waits.join_s):
            return f"was not heard of for {now_s - self._changed_s:.0f} s"
        return None


def plan_of(ready: Sequence[Preparation]) -> dict[str, object]:
    """What ranks must have in common, so that their calls can be numbered through and dealt."""
    spec = asdict(ready[0].spec)
    found: dict[str, object] = {name: spec[name] for name in _ALIKE}
    found |= {"inferload": __version__, "processes": len(ready)}
    return cast("dict[str, object]", json.loads(json.dumps(found)))


def _has_ended_early(report: PartReport) -> bool:
    return report.ending is not None or report.outcome.first_failure is not None
