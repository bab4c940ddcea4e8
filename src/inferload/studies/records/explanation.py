"""What an explanation is told as."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from inferload.records.figures import RunWarning
from inferload.records.shown import Shown
from inferload.studies.records.settings import StudyRun

_TOO_GOOD = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What one change does to throughput.

    ``ratio``: with the change over without, the geometric mean over ``rounds`` rounds of fresh
    processes, and its 95 % interval; ``claimed``: whether it is one at all, with all changes held
    together, and ``detectable_fraction`` how large one must be to be found in nine of ten cases.
    ``per_s``: items a second with it and ``base_per_s`` without, ``p50_ratio`` of the median
    response time, ``cores``: how many were at work. ``flags`` of the command line, and
    ``environment``, keep the change. ``why_not``: why it was not tried, and there are no figures.
    """

    name: str
    what: str
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    claimed: bool = False
    detectable_fraction: float | None = None
    per_s: float | None = None
    base_per_s: float | None = None
    p50_ratio: float | None = None
    cores: float | None = None
    rounds: int = 0
    flags: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    why_not: str = ""

    @property
    def too_good(self) -> bool:
        """Whether it makes so much more that it does not do the same work."""
        return (self.ratio or 0.0) > _TOO_GOOD

    @property
    def stood_still(self) -> bool:
        """Whether it makes so much less that its threads mostly waited, as they may not later."""
        return self.ratio is not None and self.ratio < 1 / _TOO_GOOD


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """An operator of torch: what it takes of a call by itself, without those that it calls."""

    name: str
    self_ms: float
    times: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """Where time goes within calls, from a traced run of the same load that is in no other figure.

    ``slowed``: throughput while traced, over that without. ``outside``: the share of a call's time
    in no operator: Python, other libraries, waiting. ``operators``: the largest by their time on
    the host; ``times``: how many a call has in all. ``kernels``: what a device does, as shares of
    its time. Of calls that are not traced ``faults`` are the pages that one makes; and of a thread
    that asked for the GIL beside them, ``gil_waits`` is how often it had to wait, as a share.
    """

    calls: int
    slowed: float | None
    operators: tuple[Operator, ...]
    times: float
    outside: float
    faults: float = 0.0
    gil_waits: float | None = None
    kernels: tuple[Operator, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a call computes and moves, and what this machine reaches.

    ``operators``: how many of torch's are called, without those that they call themselves, and
    ``allocations``: how often its allocator is asked, for ``allocated_bytes`` in all.
    ``flops``: by ``torch.utils.flop_counter``, ``None`` where there are operators that it does not
    count, which ``uncounted`` names; ``bytes``: the sizes of tensors that operators read
    and write, each once. ``peak_flops_per_s``: of a matrix product in the dtype of the model,
    ``peak_bytes_per_s``: of a copy, both measured on all cores, or on the device.
    ``cache_bytes``: of the processor's largest cache. ``why_not``: why nothing is known.
    """

    operators: float = 0.0
    allocations: float = 0.0
    allocated_bytes: float = 0.0
    flops: float | None = None
    uncounted: tuple[str, ...] = ()
    bytes: float | None = None
    peak_flops_per_s: float | None = None
    peak_bytes_per_s: float | None = None
    cache_bytes: float | None = None
    dtype: str = "float32"
    why_not: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PerCall:
    """What processes made and used for each call, as it was asked for, from all rounds.

    ``cores``: at work, of ``usable_cores``, and ``idle_cores`` without any work, of other programs
    either; ``system_share``: of their time, in the kernel;
    ``faults``: pages made, ``waits``: how often a thread gave up its core. ``calls_per_s``: made.
    ``device_busy``: for which share of the run a device had work; ``None``: not known.
    """

    cores: float
    usable_cores: float
    idle_cores: float
    system_share: float
    faults: float
    waits: float
    calls_per_s: float
    device_busy: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation(Shown):
    """What limits a model's throughput, by what changes it.

    ``bound``: one word, ``says``: what bounds it, and because of what. ``run``: as it was asked
    for. ``best``: the name of the effect that makes most, if one does; ``command``: what keeps it.
    ``rounds``: of fresh processes. ``notes``: what is named, and was not tried.
    """

    target: str
    asked: dict[str, Any]
    status: str
    bound: str
    says: str
    run: StudyRun
    effects: tuple[Effect, ...]
    best: str | None = None
    command: str = ""
    used: PerCall | None = None
    traced: Traced | None = None
    work: Work | None = None
    rounds: int = 0
    notes: tuple[str, ...] = ()
    took_s: float = 0.0
    time_limit_s: float | None = None
    warnings: tuple[RunWarning, ...] = ()
    environment: dict[str, Any] = field(default_factory=dict)
    made_by: str | None = None

    @property
    def tried(self) -> tuple[Effect, ...]:
        """Effects with figures, the largest gain first."""
        found = [one for one in self.effects if one.ratio is not None]
        return tuple(sorted(found, key=lambda one: -(one.ratio or 0.0)))

    def effect(self, name: str) -> Effect | None:
        """The effect of a change that was tried; ``None``: it was not."""
        found = [one for one in self.tried if one.name == name]
        return found[0] if found else None
