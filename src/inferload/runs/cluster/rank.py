"""The run of one rank: its own crew in step with the others, and all results into one."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from inferload.errors import InferloadError, ResultFormatError
from inferload.runs.cluster import handover, words
from inferload.runs.cluster.clock import clock_name
from inferload.runs.cluster.crew import FirstRank, FleetEndedError, RankCrew
from inferload.runs.cluster.fleet import Fleet
from inferload.runs.cluster.handover import handed_over, packed, unpacked
from inferload.runs.cluster.link import StoreLostError, wait_a_look
from inferload.runs.cluster.members import Member, Members
from inferload.runs.driving import PATIENCE_S, execute
from inferload.runs.result import result_of
from inferload.runs.run_crew import raise_what_ended
from inferload.signals import StopSignals

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferload.callers.crew import Crew, Observer
    from inferload.plan.options import RunOptions
    from inferload.records.result import RunResult
    from inferload.runs.cluster.link import Link
    from inferload.runs.execution import Execution
    from inferload.signals import PutOff

# One Ctrl-C comes twice: from the terminal, and from torchrun.
SIGNALS_APART_S = 2.0


class FirstRankLostError(InferloadError):
    """The first rank cannot merge anything any more; ``result`` is what this rank measured."""

    def __init__(self, message: str, result: RunResult) -> None:
        super().__init__(message)
        self.result = result


class Rank:
    """One rank of a run; only the first one has a result in the end."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._own = Member(
            rank=link.rank, host=platform.node(), clock=clock_name(), pid=os.getpid()
        )
        link.say(words.hello(link.rank), json.dumps(asdict(self._own)).encode())
        self._members = Members(link, self._own) if link.rank == 0 else None

    def refuse(self, error: InferloadError) -> None:
        """Tell the first rank that this one cannot run, so that it does not wait for it."""
        link = self._link
        told = json.dumps([type(error).__name__, str(error)])
        with suppress(StoreLostError):
            link.say(words.error(link.rank), told.encode())
            link.count(words.ERRORS, 1)

    def end(self) -> None:
        """Tell the others that the first rank waits for them no more."""
        with suppress(StoreLostError):
            self._link.say(words.OVER)
            time.sleep(2 * self._link.look_s)  # it may be this process that keeps the store

    def run(
        self, crew: Crew, options: RunOptions, observer: Observer, then: PutOff | None = None
    ) -> RunResult | None:
        """Run the crew of this rank; the result of all of them, on the first rank.

        ``then``: as of ``runs.run_crew``.

        Raises:
            InferloadError: as ``runs.run_crew``.
            RunInterrupted: Ctrl-C or SIGTERM.
            FirstRankLostError: there is nobody to hand the result over to.
        """
        stop_on_error = options.on_error == "stop"
        own = RankCrew(crew, self._link, self._own, self._members, stop_on_error=stop_on_error)
        try:
            ready = own.prepare(observer.stage)
            with StopSignals(SIGNALS_APART_S, then) as signals:
                done = execute(own, ready, options, observer, signals)
                done = replace(done, signals=tuple(signals.received))
                # a signal that comes from here on does not lose what was measured
                report, log = handed_over(
                    done,
                    rank=self._link.rank,
                    ranks=self._link.ranks,
                    host=self._own.host,
                    late_ms=own.late_ms,
                    clock_error_ms=own.clock_error_ms,
                )
                if self._members is None:
                    self._hand_over(lambda: packed(report, log), done)
                    return None
                fleet = Fleet(handover.MOST_RAW_CALLS)
                fleet.add(report, log)
                whole = self._gathered(fleet, self._members, options, observer, signals)
                if whole.signals and not whole.log.calls_made:
                    raise KeyboardInterrupt  # there is nothing to report
                result = result_of(whole)
        except FleetEndedError:
            return None  # the first rank says why
        raise_what_ended(result, whole)
        return result

    def _gathered(
        self,
        fleet: Fleet,
        members: Members,
        options: RunOptions,
        observer: Observer,
        signals: StopSignals,
    ) -> Execution:
        """Take what the other ranks hand over, one after another."""
        link, impatient_after = self._link, len(signals.received)
        # After a signal other ranks have so long: first they give up their calls, and one that says
        # nothing is known to be lost before. torchrun kills 30 s after it has sent SIGTERM.
        give_up_s = PATIENCE_S + link.waits.lost_s
        try:
            for rank in range(1, link.ranks):
                link.say(words.GIVE, str(rank + _ahead(link.ranks)).encode())
                announce_at = time.monotonic() + 1.0
                while rank not in members.lost and not self._taken(rank, fleet, members):
                    if signals.received and members.member(rank) is None:
                        members.lost[rank] = "was never heard of"
                    elif len(signals.received) > impatient_after or signals.waited_s() > give_up_s:
                        members.lost[rank] = "had handed nothing over when the run was given up"
                    members.look()
                    if time.monotonic() > announce_at:
                        announce_at = math.inf
                        observer.stage(f"waiting for the calls of {members.name(rank)}")
                    wait_a_look(link)
        except StoreLostError as error:
            for rank in members.others:
                if rank not in members.done:
                    members.lost[rank] = f"could not be heard: {error}"
        lost = {rank: (members.host(rank), how) for rank, how in members.lost.items()}
        return fleet.execution(lost, options.calls_of_all)

    def _taken(self, rank: int, fleet: Fleet, members: Members) -> bool:
        """Take what a rank hands over, if that is there; or note why it never will be."""
        link = self._link
        content = link.received(words.result(rank))
        if content is None:
            told = link.heard(words.error(rank))
            if told is not None:
                members.lost[rank] = f"failed: {json.loads(told)[1]}"
            return False
        members.done.add(rank)
        link.say(words.taken(rank))
        try:
            fleet.add(*unpacked(content, rank))
        except ResultFormatError as error:
            members.lost[rank] = str(error)
        return True

    def _hand_over(self, content: Callable[[], bytes], done: Execution) -> None:
        """Give the first rank what this one has, when it is its turn."""
        link, sent = self._link, False
        first, why = FirstRank(link), None
        try:
            while why is None:
                if link.heard(words.taken(link.rank)) is not None:
                    return
                turn = None if sent else link.heard(words.GIVE)
                if link.heard(words.OVER) is not None:
                    why = "has ended without this one's calls"
                elif turn is not None and link.rank < int(turn):
                    link.send(words.result(link.rank), content())
                    sent = True
                else:
                    why = first.lost()
                    wait_a_look(link)
        except StoreLostError as error:
            why = f"cannot be reached: {error}"
        raise FirstRankLostError(f"rank 0 {why}", result_of(done))


def _ahead(ranks: int) -> int:
    """How many ranks may put down what they hand over before the first of them was heard.

    Each takes a look to notice that it may, and what all of them put down is in the store's memory.
    """
    return min(max(ranks // 50, 8), 128)
