"""The other ranks, as the first one sees them: who is ready, who has failed, who is lost."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inferload.errors import InferloadError, NativeBuildError, PlanError
from inferload.records.endings import TargetCrashed
from inferload.runs.cluster import words
from inferload.runs.cluster.clock import Offset, ask_offset, invite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from inferload.callers.crew import Observer
    from inferload.runs.cluster.link import Link

# Ranks that are named while they are waited for.
NAMED = 3
# Of what differs, so many letters are shown.
SHOWN = 200
# So many machines are told beforehand that they will be asked what time it is.
INVITED = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One rank: its machine, the name of that machine's clock, and its process."""

    rank: int
    host: str
    clock: str
    pid: int


class Members:
    """All ranks of a run.

    ``lost`` says for each rank that is lost, how; ``done`` are those that have handed over.
    """

    def __init__(self, link: Link, own: Member) -> None:
        self._link = link
        self._known: dict[int, Member] = {own.rank: own}
        self._ready: set[int] = set()
        self._announced: list[int] = []
        self._beats: list[int] = []
        self._changed_s: list[float] = []
        self._looked_s = 0.0
        self.lost: dict[int, str] = {}
        self.done: set[int] = set()
        self.offsets: dict[str, Offset] = {own.clock: Offset(ahead_ns=0, error_ns=0)}
        link.expect_beats()

    @property
    def others(self) -> Iterable[int]:
        """Every other rank that is not lost."""
        return (rank for rank in range(1, self._link.ranks) if rank not in self.lost)

    def member(self, rank: int) -> Member | None:
        """What a rank has said of itself, if it has."""
        if rank not in self._known and (said := self._link.heard(words.hello(rank))) is not None:
            self._known[rank] = Member(**json.loads(said))
        return self._known.get(rank)

    def host(self, rank: int) -> str:
        """The machine of a rank, empty if it is not known."""
        found = self.member(rank) if rank in self._known else None
        return "" if found is None else found.host

    def name(self, rank: int) -> str:
        """A rank and its machine, in words."""
        found = self.member(rank)
        return f"rank {rank}" + (f" ({found.host})" if found else "")

    def look(self) -> None:
        """See who was not heard of for too long; it takes no time if that was done just now."""
        now, waits = time.monotonic(), self._link.waits
        if now - self._looked_s < waits.look_s:
            return
        self._looked_s = now
        beats = self._link.beats()
        if not self._beats:
            self._changed_s = [now] * len(beats)
            self._beats = beats
        for rank, count in enumerate(beats):
            if count != self._beats[rank]:
                self._changed_s[rank] = now
            silent_s = now - self._changed_s[rank]
            patience_s = waits.lost_s if count else waits.join_s
            if rank in {0, *self.lost, *self.done} or silent_s < patience_s:
                continue
            if self._link.has_sent(words.result(rank)):
                continue  # it has ended, and is to be heard yet
            self.lost[rank] = (
                f"was not heard of for {silent_s:.0f} s" if count else "was never heard of"
            )
        self._beats = beats

    def raise_errors(self) -> None:
        """Raise what another rank was refused by, before the run.

        Raises:
            InferloadError: of the class that it was there.
        """
        if not self._link.count(words.ERRORS):
            return
        for rank in self.others:
            told = self._link.heard(words.error(rank))
            if told is not None:
                kind, text = json.loads(told)
                raise error_of(kind, f"{self.name(rank)}: {text}")

    def all_ready(self) -> bool:
        """Whether every rank stands at the start line, or is lost."""
        self.raise_errors()
        self.look()
        if self._link.count(words.READY) >= self._link.ranks:
            return True
        return bool(self.lost) and not self.not_ready()

    def check_alike(self, own: dict[str, object]) -> None:
        """Refuse ranks whose calls cannot be numbered through with those of the first one.

        Raises:
            PlanError: naming a rank, and what it has that the first one has not.
        """
        for rank in self.others:
            said = self._link.heard(words.ready(rank))
            its = own if said is None else json.loads(said)
            for name, value in own.items():
                if its.get(name) != value:
                    raise PlanError(
                        f"{self.name(rank)} has {name} {_short(its.get(name))}, and rank 0 has "
                        f"{_short(value)}: all ranks need the same command, model and inputs"
                    )

    def not_ready(self) -> list[int]:
        """The ranks that are not at the start line yet, and not lost."""
        for rank in self.others:
            if rank not in self._ready and self._link.heard(words.ready(rank)) is not None:
                self._ready.add(rank)
        return [rank for rank in self.others if rank not in self._ready]

    def announce_missing(self, observer: Observer) -> None:
        """Say whom the others wait for."""
        missing = self.not_ready()
        if missing and missing != self._announced:
            self._announced = missing
            named = ", ".join(self.name(rank) for rank in missing[:NAMED])
            more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
            absent = all(self.member(rank) is None for rank in missing)
            hint = ", never heard of yet (to run alone, unset RANK and WORLD_SIZE)" * absent
            observer.stage(f"waiting for {named}{more}{hint}")

    def ask_clocks(self, now_ns: Callable[[], int]) -> None:
        """Learn the clock of every other machine, from one rank of each."""
        one_of_each: dict[str, int] = {}
        for rank in self.others:
            found = self.member(rank)
            if found is not None and found.clock not in self.offsets:
                one_of_each.setdefault(found.clock, rank)
        waiting = list(one_of_each.items())
        for number, (clock, rank) in enumerate(waiting):
            # it takes each of them a look to notice, which several do meanwhile
            for _, invited in waiting[number : number + INVITED]:
                invite(self._link, invited)
            offset = ask_offset(self._link, rank, now_ns)
            if offset is not None:
                self.offsets[clock] = offset


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def error_of(kind: str, text: str) -> InferloadError:
    """The error that another rank told of, of the same class where it is one of ours."""
    for own in (PlanError, NativeBuildError, TargetCrashed):
        if kind == own.__name__:
            return own(text)
    return InferloadError(text)
