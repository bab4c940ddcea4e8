"""Rounds of fresh processes, in which the run as asked and every change are called in turn."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from inferload.errors import InferloadError, PlanError
from inferload.machine.telemetry import RunTelemetry
from inferload.stats.slices.ratios import middle
from inferload.stats.slices.slice import Slice, quantile_ns
from inferload.studies.explain.arms import BASE
from inferload.studies.slices.plan import (
    CALLS_OF_SLICE,
    FEWEST_SLICES,
    SLICE_S,
    warm_up_calls,
)
from inferload.studies.slices.turns import ALL_HAVE_THE_GIL_S, in_turn
from inferload.units import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

    from inferload.callers.crew import Observer, Preparation
    from inferload.stats.slices.used import Used
    from inferload.studies.bench import Turn
    from inferload.studies.explain.arms import Arm

# The run as asked in a process that has nothing else.
_ALONE = (BASE, "alone")
# Each is called for so long, twice, before its slices count.
_WARM_SLICE_S = 0.04


class ArmBench(Protocol):
    """A process that holds calls open, each time it is used a fresh one."""

    def begin_turn(self, name: Hashable, turn: Turn, observer: Observer) -> None:
        """Have it prepare calls, and do not wait."""

    def opened(self, observer: Observer) -> Preparation:
        """Wait for them; what run they would be."""

    def begin_slice(
        self, name: Hashable, seconds: float, warmup_calls: int, observer: Observer
    ) -> None:
        """Have it call for a moment, and do not wait."""

    def sliced(self, observer: Observer) -> Slice:
        """Wait for that moment's calls."""

    def close(self) -> None:
        """End it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmRound:
    """What a change came to in one round.

    ``log_ratio``: of items a second, over the run as asked beside it; ``used``: by its slices, and
    ``calls`` in them.
    """

    log_ratio: float
    per_s: float
    base_per_s: float
    p50_ms: float
    base_p50_ms: float
    calls: int
    used: Used


@dataclass(slots=True)
class _Side:
    """An arm that is open, in one process or several; ``base``: what it is held against."""

    arm: Arm
    name: Hashable
    hosts: list[ArmBench]
    base: Hashable
    call_s: float = 0.0
    slices: list[Slice] = field(default_factory=list)


class ArmError(Exception):
    """An arm failed; what was open is not any more."""

    def __init__(self, name: str, error: InferloadError) -> None:
        super().__init__(str(error))
        self.name, self.error = name, error


class Rounds:
    """Makes rounds; ``host`` gives the process for an environment, by a number among its like.

    ``refused``: changes that cannot be made, and why. ``cost_s``: what each took of the last round.
    ``slice_s``: the longest slice of calls that are shorter.
    """

    def __init__(
        self,
        host: Callable[[Mapping[str, str], int], ArmBench],
        observer: Observer,
        seed: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host, self._observer, self._seed, self._clock = host, observer, seed, clock
        self._hosts: dict[tuple[tuple[tuple[str, str], ...], int], ArmBench] = {}
        self.refused: dict[str, str] = {}
        self.cost_s: dict[str, float] = {}
        self.slice_s = 1.0
        self.ready: Preparation | None = None

    def round(self, arms: Sequence[Arm], number: int) -> dict[str, ArmRound]:
        """Call all of them in turn, in processes that are ended afterwards.

        An arm that fails is left out, of later rounds as well, and the round begins anew.

        Raises:
            InferloadError: the run as asked failed.
        """
        while True:
            left = [one for one in arms if one.name not in self.refused]
            try:
                return self._round(left, np.random.default_rng([self._seed, number]))
            except ArmError as error:
                if error.name == BASE:
                    raise error.error from None
                self.refused[error.name] = str(error)
            finally:
                for host in self._hosts.values():
                    host.close()

    def _round(self, arms: Sequence[Arm], rng: np.random.Generator) -> dict[str, ArmRound]:
        self.cost_s = {}
        sides = self._opened(arms, rng)
        for one in sides.values():
            began = self._clock()
            self._warm(one)
            self.cost_s[one.arm.name] = self.cost_s.get(one.arm.name, 0.0) + self._clock() - began
        lengths = {name: self._slice_s(one) for name, one in sides.items()}
        counts = {
            name: FEWEST_SLICES * (2 if one.arm.name == BASE else 1) for name, one in sides.items()
        }
        for name in in_turn(counts, rng):
            one, began = sides[name], self._clock()
            one.slices.append(self._slice(one, lengths[name], warm_up_calls(one.call_s)))
            self.cost_s[one.arm.name] += self._clock() - began
        return {
            one.arm.name: _told(one, sides[one.base])
            for one in sides.values()
            if one.arm.name != BASE
        } | {BASE: _told(sides[BASE], sides[BASE])}

    def _opened(self, arms: Sequence[Arm], rng: np.random.Generator) -> dict[Hashable, _Side]:
        """Each arm, ready to be called."""
        together, *others = first = self._sides(arms)
        began = self._clock()
        for place in rng.permutation(len(first)):  # in processes of their own, at the same time
            for bench in first[place].hosts:
                bench.begin_turn(first[place].name, first[place].arm.turn, self._observer)
        for side in first:
            for bench in side.hosts:
                ready = self._of(side.arm, bench)
                self.ready = self.ready or ready
        each_s = (self._clock() - began) / sum(len(one.hosts) for one in first)
        for one in [*others, together]:
            self.cost_s[one.arm.name] = each_s * len(one.hosts)
        found = {one.name: one for one in first}
        for arm in arms[1:]:
            if not arm.apart:
                began = self._clock()
                side = _Side(arm, arm.name, together.hosts, BASE)
                if self._joins(side):
                    found[side.name] = side
                    self.cost_s[arm.name] = self._clock() - began
        return found

    def _sides(self, arms: Sequence[Arm]) -> list[_Side]:
        """Those that begin a process: the run as asked, and what needs one of its own.

        Such have nothing beside them, and are held against a run as asked that has not either.
        """
        base = arms[0]
        found = [_Side(base, BASE, [self._bench({}, 0)], BASE)]
        number = 1
        for one in arms[1:]:
            if not one.apart:
                continue
            if number == 1:
                found.append(_Side(base, _ALONE, [self._bench({}, number)], _ALONE))
                number += 1
            hosts = [self._bench(one.environment, number + n) for n in range(one.processes)]
            number += one.processes
            found.append(_Side(one, one.name, hosts, _ALONE))
        return found

    def _joins(self, side: _Side) -> bool:
        """Prepare an arm in a process that has others."""
        (bench,) = side.hosts
        bench.begin_turn(side.name, side.arm.turn, self._observer)
        try:
            bench.opened(self._observer)
        except PlanError as error:  # refused: the others are open as before
            self.refused[side.arm.name] = str(error)
            return False
        except InferloadError as error:
            raise ArmError(side.arm.name, error) from error
        return True

    def _bench(self, environment: Mapping[str, str], number: int) -> ArmBench:
        key = (tuple(sorted(environment.items())), number)
        if key not in self._hosts:
            self._hosts[key] = self._host(environment, number)
        return self._hosts[key]

    def _of(self, arm: Arm, bench: ArmBench) -> Preparation:
        try:
            return bench.opened(self._observer)
        except InferloadError as error:
            raise ArmError(arm.name, error) from error

    def _warm(self, one: _Side) -> None:
        """Call it until it has learned what it will."""
        calls = one.arm.turn.options.warmup_calls
        one.call_s = self._slice(one, _WARM_SLICE_S, calls).mean_s
        if one.call_s < _WARM_SLICE_S:
            one.call_s = self._slice(one, _WARM_SLICE_S, warm_up_calls(one.call_s)).mean_s

    def _slice_s(self, one: _Side) -> float:
        callers = one.arm.turn.settings.callers or one.arm.turn.options.load.callers
        wanted_s = max(SLICE_S, CALLS_OF_SLICE * one.call_s, ALL_HAVE_THE_GIL_S * callers)
        return min(wanted_s, max(self.slice_s, one.call_s, ALL_HAVE_THE_GIL_S * callers))

    def _slice(self, one: _Side, seconds: float, warmup_calls: int) -> Slice:
        try:
            with self._watched(one.arm):
                for bench in one.hosts:
                    bench.begin_slice(one.name, seconds, warmup_calls, self._observer)
                return _together([bench.sliced(self._observer) for bench in one.hosts])
        except InferloadError as error:
            raise ArmError(one.arm.name, error) from error

    @contextmanager
    def _watched(self, arm: Arm) -> Iterator[None]:
        """Devices are watched, as in runs, if the arm is of that."""
        with ExitStack() as stack:
            if arm.watched and self.ready is not None:
                stack.enter_context(RunTelemetry(self.ready.devices, wanted=True))
            yield


def _told(one: _Side, base: _Side) -> ArmRound:
    rates, base_rates = (
        np.log([max(each.items_per_s, 1e-12) for each in side.slices]) for side in (one, base)
    )
    log_ratio = middle(rates) - middle(base_rates)
    used = [each.used for each in one.slices if each.used is not None]
    whole = used[0]
    for each in used[1:]:
        whole = whole.plus(each)
    return ArmRound(
        log_ratio=-log_ratio if one.arm.watched else log_ratio,
        per_s=math.exp(middle(rates)),
        base_per_s=math.exp(middle(base_rates)),
        p50_ms=quantile_ns(one.slices, 0.5) / NS_PER_MS,
        base_p50_ms=quantile_ns(base.slices, 0.5) / NS_PER_MS,
        calls=sum(each.calls for each in one.slices),
        used=whole,
    )


def _together(slices: Sequence[Slice]) -> Slice:
    """What several processes did in the same moment."""
    if len(slices) == 1:
        return slices[0]
    first, *others = slices
    used = first.used
    for one in others:
        if used is not None and one.used is not None:
            used = used.plus(one.used)
    if used is not None and first.used is not None:
        used = used.for_(first.used.wall_s)
    return Slice(
        began_ns=min(one.began_ns for one in slices),
        items_per_s=sum(one.items_per_s for one in slices),
        calls=sum(one.calls for one in slices),
        failed=sum(one.failed for one in slices),
        buckets=np.concatenate([one.buckets for one in slices]),
        counts=np.concatenate([one.counts for one in slices]),
        used=used,
    )
