"""What is known of a run when its bound is to be named: effects, and what was used meanwhile."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inferload.runs.checks.conditions import GIL_FORMS
from inferload.stats.slices.judging import judged_together
from inferload.studies.explain.arms import BASE
from inferload.studies.records.explanation import Effect, PerCall

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from inferload.stats.slices.used import Used
    from inferload.studies.explain.arms import Arm, NotTried
    from inferload.studies.explain.rounds import ArmRound
    from inferload.studies.records.explanation import Explanation, Traced, Work

# Less than this of the cores is what comes between calls.
_IDLE = 0.2
# An interval that ends by more than this beyond a bound does not show it.
_MARGIN = 0.15
# A thread that asks for the GIL is late in 1 of 10 cases where nobody holds it, and now and then in
# 5 of 10, when timers are late; in 7 of 10 where four threads launch small operators, and in 9 of
# 10 where they compute.
_CONTENDED = 0.6
# With fewer cores at work nobody computes in Python, and a core that slept wakes up late.
_AT_WORK = 0.5
#: Fewer rounds have no intervals.
_FEWEST = 2


@dataclass(frozen=True, slots=True)
class Bound:
    """One word, and a sentence with what it rests on."""

    word: str
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What rules of bounds look at.

    ``python``: callers hold the GIL while they call. ``waits_for_gil``: threads do, as the run
    warns, or one beside its calls found; ``None``: it is not known.
    """

    callers: int
    threads: int
    used: PerCall
    effects: Mapping[str, Effect]
    python: bool = True
    waits_for_gil: bool | None = None
    traced: Traced | None = None
    work: Work | None = None
    on_device: bool = False

    @property
    def calls_per_s(self) -> float:
        """Of the run as asked, in the rounds."""
        return self.used.calls_per_s

    @property
    def busy(self) -> float | None:
        """For which share of the time the device has work; ``None``: not known."""
        return self.used.device_busy

    @property
    def idle(self) -> bool:
        """Whether there are cores without work, of this process or of others."""
        return self.used.idle_cores > _IDLE * self.used.usable_cores

    @property
    def operators(self) -> float:
        """How many a call has; where they could not be counted, all in the trace, nested too."""
        if self.work is not None and self.work.operators:
            return self.work.operators
        return 0.0 if self.traced is None else self.traced.times

    @property
    def others(self) -> float:
        """Cores that neither this process had, nor were idle."""
        used = self.used
        return max(used.usable_cores - used.cores - used.idle_cores, 0.0)

    def ratio(self, name: str) -> float | None:
        """What a change makes, over the run as asked; ``None``: it was not tried."""
        one = self.effects.get(name)
        return None if one is None else one.ratio

    def makes(self, name: str, least: float, margin: float = _MARGIN) -> bool:
        """Whether a change makes so much of the run as asked, and its interval is near to it."""
        one = self.effects.get(name)
        if one is None or one.ratio is None or one.low is None:
            return False
        return one.ratio >= least and one.low >= least - margin

    def gain(self, *names: str) -> float:
        """The largest gain of these that is one beyond noise, as a fraction; 0: none is."""
        found = [one for name in names if (one := self.effects.get(name)) is not None]
        found = [one for one in found if not (one.name.startswith("form-") and one.too_good)]
        return max((one.ratio - 1 for one in found if one.claimed and one.ratio), default=0.0)


def facts_of(found: Explanation) -> Facts:
    """What an explanation has found out, less what it concludes.

    Raises:
        ValueError: there were no rounds.
    """
    spec = found.run.spec
    if spec is None or found.used is None:
        raise ValueError("it was not explained")
    return Facts(
        callers=spec.callers,
        threads=spec.threads_per_call,
        used=found.used,
        effects={one.name: one for one in found.tried},
        python="threads" in spec.executors and bool(GIL_FORMS & set(spec.forms)),
        waits_for_gil=_waits_for_gil(found),
        traced=found.traced,
        work=found.work,
        on_device=bool(spec.devices),
    )


def _waits_for_gil(found: Explanation) -> bool | None:
    if any(one.code == "gil" for one in found.warnings):
        return True
    waits = None if found.traced is None else found.traced.gil_waits
    if waits is None or found.used is None:
        return None
    return waits > _CONTENDED and found.used.cores > _AT_WORK


def effects_of(
    arms: Sequence[Arm],
    left: Sequence[NotTried],
    refused: Mapping[str, str],
    rounds: Sequence[Mapping[str, ArmRound]],
    why_left: str = "there was no time for it",
) -> tuple[Effect, ...]:
    """What each change came to, in the order in which they were planned, all judged together."""
    names = [
        one.name
        for one in arms
        if one.name != BASE and one.name not in refused and all(one.name in own for own in rounds)
    ]
    judged = {}
    if len(rounds) >= _FEWEST and names:
        judged = judged_together({name: [own[name].log_ratio for own in rounds] for name in names})
    found = []
    for one in arms:
        if one.name == BASE:
            continue
        ratio = judged.get(one.name)
        if ratio is None:
            why = refused.get(one.name, why_left)
            found.append(Effect(name=one.name, what=one.what, why_not=why))
            continue
        made = [own[one.name] for own in rounds]
        found.append(
            Effect(
                name=one.name,
                what=one.what,
                flags=dict(one.flags),
                environment=dict(one.environment),
                ratio=ratio.value,
                low=ratio.low,
                high=ratio.high,
                claimed=ratio.claimed,
                detectable_fraction=math.expm1(ratio.detectable_log),
                per_s=_mean([own.per_s for own in made]),
                base_per_s=_mean([own.base_per_s for own in made]),
                p50_ratio=_mean([own.p50_ms / own.base_p50_ms for own in made]),
                cores=cores_of([own.used for own in made]),
                rounds=ratio.pairs,
            )
        )
    found += [Effect(name=one.name, what=one.what, why_not=one.why) for one in left]
    return tuple(found)


def per_call(
    rounds: Sequence[Mapping[str, ArmRound]],
    *,
    usable_cores: float,
    items_per_call: float,
    busy: float | None = None,
) -> PerCall:
    """What the run as asked made and used, over all rounds; ``busy``: its device, in the run."""
    own = [one[BASE] for one in rounds]
    calls = max(sum(one.calls for one in own), 1)
    cpu_s = sum(one.used.cpu_s for one in own)
    cores = cores_of([one.used for one in own])
    wall_s = max(sum(one.used.wall_s for one in own), 1e-9)
    return PerCall(
        cores=cores,
        idle_cores=max(
            min(sum(one.used.idle_s for one in own) / wall_s, usable_cores - cores), 0.0
        ),
        usable_cores=usable_cores,
        system_share=sum(one.used.system_s for one in own) / cpu_s if cpu_s else 0.0,
        faults=sum(one.used.faults + one.used.read_faults for one in own) / calls,
        waits=sum(one.used.gave_up for one in own) / calls,
        calls_per_s=_mean([one.per_s for one in own]) / items_per_call,
        device_busy=busy,
    )


def cores_of(used: Sequence[Used]) -> float:
    """How many cores were at work in the mean."""
    return sum(one.cpu_s for one in used) / max(sum(one.wall_s for one in used), 1e-9)


def _mean(values: Sequence[float]) -> float:
    return math.exp(sum(math.log(max(one, 1e-12)) for one in values) / len(values))


def change_of(one: Effect) -> str:
    """A change in few words."""
    return "the same" if one.ratio is None or not one.claimed else f"{one.ratio - 1:+.0%}"


def twice_text(facts: Facts) -> str:
    """What twice the callers make, to go on with."""
    one = facts.effects.get("callers-twice")
    return "" if one is None else f", and twice the callers make {change_of(one)}"
