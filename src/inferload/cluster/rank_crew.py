"""The crew of one rank, in step with those of the others."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from inferload.cluster.clock import answer_time, is_asked
from inferload.cluster.link import wait_a_look

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferload.cluster.link import Link
    from inferload.cluster.members import Member, Members
    from inferload.crew import Crew, Observer, Part, PartReport, Preparation

# From agreeing on a time until then: every rank looks at the store twice, and wakes its callers.
LEAD_S = 0.2
LEAD_LOOKS = 4
# How often it is said whom the others wait for.
ANNOUNCE_S = 2.0


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
        #: How long after the agreed time the callers were released, and how sure that is.
        self.late_ms = 0.0
        self.clock_error_ms = 0.0
        self.now_ns: Callable[[], int] = crew.now_ns
        self.wait_ready = crew.wait_ready

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
        return self._crew.prepare(announce)

    def start(self) -> None:
        """Start the callers of this rank."""
        self._crew.start()

    def agreed_start(self, observer: Observer) -> int | None:
        """Wait until all ranks stand at the start line, and agree on a time."""
        link = self._link
        link.say(f"ready/{link.rank}")
        link.count("ready", 1)
        announced = time.monotonic()
        while not link.stop_asked and not self._crew.wait_done(0):
            if self._members is None:
                if (said := link.heard("start")) is not None:
                    return self._start_of(json.loads(said))
                if link.heard("over") is not None:
                    raise FleetEndedError
                if is_asked(link):
                    answer_time(link, time.perf_counter_ns)
            elif self._members.all_ready():
                return self._agree(self._members)
            elif time.monotonic() > announced + ANNOUNCE_S:
                announced = time.monotonic()
                self._members.announce_missing(observer)
            wait_a_look(link)
        link.ask_stop()  # a caller of this rank has ended already: the others need not begin
        return None

    def _agree(self, members: Members) -> int:
        members.ask_clocks(time.perf_counter_ns)
        lead_s = LEAD_S + LEAD_LOOKS * self._link.look_s
        start_ns = time.perf_counter_ns() + int(lead_s * 1e9)
        offsets = {clock: [one.ahead_ns, one.error_ns] for clock, one in members.offsets.items()}
        self._link.say("start", json.dumps({"at_ns": start_ns, "clocks": offsets}).encode())
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
        if self._link.stop_asked and not self._stopped:
            self.stop()
        if self._members is not None:
            self._members.look()
        return self._crew.wait_done(timeout_s)

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
        return reports


class FleetEndedError(Exception):
    """The first rank has ended the run before it began."""


def _has_ended_early(report: PartReport) -> bool:
    return report.ending is not None or report.outcome.first_failure is not None
