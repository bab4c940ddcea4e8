"""Pure data: what studies of many runs leave behind (sweeps, searches and comparisons).

Each has ``made_by``, the command line that made it; ``None`` in Python.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from inferload.records.devices import STAGE_NAMES
from inferload.records.distribution import Estimate  # noqa: TC001 - pydantic reads these records
from inferload.records.figures import (
    RunWarning,  # noqa: TC001
    SetUp,  # noqa: TC001
    Summary,  # noqa: TC001
)
from inferload.records.shown import Shown
from inferload.records.spec import RunSpec  # noqa: TC001
from inferload.stats.judging import Judgement  # noqa: TC001
from inferload.stats.limits import Limit  # noqa: TC001
from inferload.stats.pairs import NEGLIGIBLE_FRACTION
from inferload.units import count_text, rate_text

if TYPE_CHECKING:
    from inferload.records.distribution import Distribution
    from inferload.records.result import RunResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a study varies from run to run; ``None``: as the run was asked for otherwise."""

    callers: int | None = None
    rate_per_s: float | None = None
    processes: int | None = None
    threads_per_call: int | None = None
    batch_size: int | None = None
    form: str | None = None

    @property
    def given(self) -> dict[str, Any]:
        """Those that are set."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: value for name, value in found.items() if value is not None}

    def __str__(self) -> str:
        return ", ".join(setting_text(name, value) for name, value in self.given.items())


def setting_text(name: str, value: Any) -> str:
    """One setting in words.

    >>> setting_text("callers", 1), setting_text("rate_per_s", 250.0), setting_text("form", "aoti")
    ('1 caller', '250/s', 'form aoti')
    """
    if name == "rate_per_s":
        return f"{rate_text(value)}/s"
    if name == "threads_per_call":
        return f"{count_text(value, 'thread')} a call"
    if name == "batch_size":
        return f"batch {value}"
    if name == "form":
        return f"form {value}"
    noun = {"callers": "caller", "processes": "process"}[name]
    return f"{value:,} processes" if noun == "process" and value != 1 else count_text(value, noun)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRun:
    """One run of a study: all of its figures, and not its log.

    ``failure``: what it failed with, in a sentence; the figures are then those of what was made
    before, or ``None``.
    """

    settings: Settings
    block: int | None = None
    run_id: str | None = None
    created_at: str | None = None
    status: str = "failed"
    spec: RunSpec | None = None
    set_up: SetUp | None = None
    summary: Summary | None = None
    warnings: tuple[RunWarning, ...] = ()
    failure: str | None = None

    @classmethod
    def of(
        cls,
        settings: Settings,
        result: RunResult | None,
        *,
        block: int | None = None,
        failure: str | None = None,
    ) -> StudyRun:
        """What is kept of a run."""
        if result is None:
            return cls(settings=settings, block=block, failure=failure)
        return cls(
            settings=settings,
            block=block,
            run_id=result.run_id,
            created_at=result.created_at,
            status=result.status,
            spec=result.spec,
            set_up=result.set_up,
            summary=without_samples(result.summary),
            warnings=result.warnings,
            failure=failure,
        )


def without_samples(summary: Summary) -> Summary:
    """A summary without the values behind its distributions."""

    def bare(one: Distribution | None) -> Distribution | None:
        return None if one is None else replace(one, sample=None)

    stages = summary.stages
    if stages is not None:
        own: dict[str, Any] = {
            f"{name}_ms": bare(getattr(stages, f"{name}_ms")) for name in STAGE_NAMES
        }
        stages = replace(stages, **own)
    return replace(
        summary,
        response_ms=bare(summary.response_ms),
        service_ms=bare(summary.service_ms),
        queue_ms=bare(summary.queue_ms),
        lateness_ms=bare(summary.lateness_ms),
        stages=stages,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPoint:
    """One point of a sweep: the median of its runs, with the range of their intervals.

    ``p50_ms`` and ``p99_ms`` are of the response time. Quantiles of several runs are never
    averaged: the median is that of one run. ``cores`` is how many cores the callers can use at
    most; ``efficiency_fraction``: items per second and core, of those of the point that has most.
    ``runs`` came to their end, of ``tried``.
    """

    settings: Settings
    runs: int
    tried: int
    throughput_calls_per_s: Estimate | None
    throughput_items_per_s: Estimate | None
    p50_ms: Estimate | None
    p99_ms: Estimate | None
    cores: float | None = None
    efficiency_fraction: float | None = None
    failure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UslFit:
    """The Universal Scalability Law fitted to a sweep over callers (``capacity.fitted_usl``).

    X(N) = rate_of_one N / (1 + contention (N - 1) + coherency N (N - 1)). Intervals are 95 %, by
    bootstrap. ``peak_callers`` is sqrt((1 - contention) / coherency), and ``None`` with the reason
    in ``no_peak`` where the sweep does not say. ``error_fraction``: the root mean square of the
    relative residuals.
    """

    rate_of_one_per_s: Estimate
    contention: Estimate
    coherency: Estimate
    peak_callers: Estimate | None
    no_peak: str | None
    error_fraction: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep(Shown):
    """A sweep over one or two things, each point run once in each block.

    ``axes`` maps the names of ``Settings`` to their values. ``order`` has the settings in the order
    they were run, block by block. ``drift_fraction``: by how much throughput moved from the first
    block to the last, point by point. ``status`` is ``"complete"`` or ``"interrupted"``.
    """

    target: str
    asked: dict[str, Any]
    status: str
    axes: dict[str, tuple[Any, ...]]
    blocks: int
    points: tuple[SweepPoint, ...]
    runs: tuple[StudyRun, ...]
    usl: UslFit | None = None
    no_usl: str | None = None
    drift_fraction: float | None = None
    warnings: tuple[RunWarning, ...] = ()
    environment: dict[str, Any] = field(default_factory=dict)
    made_by: str | None = None

    @property
    def peak(self) -> SweepPoint | None:
        """The point with the most items per second that was measured."""
        known = [one for one in self.points if one.throughput_items_per_s is not None]
        return max(known, key=lambda one: _value(one.throughput_items_per_s), default=None)


def _value(estimate: Estimate | None) -> float:
    return 0.0 if estimate is None else estimate.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One figure of B over that of A, with its 95 % interval; ``None`` where it has none.

    ``detectable_fraction``: the smallest change for the worse that would have been found in four of
    five cases. ``pairs`` alternated; ``None``: two runs, each with its own interval.
    ``p_signed_rank``: of the pairs, the chance of it between equals by Wilcoxon's test, which one
    disturbed run moves less.
    """

    figure: str
    a: float
    b: float
    ratio: float
    low: float | None
    high: float | None
    detectable_fraction: float | None
    pairs: int | None = None
    p_signed_rank: float | None = None

    @property
    def verdict(self) -> str:
        """``"faster"``, ``"slower"`` (of B) or ``"no difference found"``.

        A difference is claimed if the interval excludes equality, and the ratio is more than 1 %
        from it.
        """
        if self.low is None or self.high is None or self.low <= 1 <= self.high:
            return "no difference found"
        if abs(self.ratio - 1) <= NEGLIGIBLE_FRACTION:
            return "no difference found"
        return "faster" if (self.ratio > 1) == (self.figure == "throughput") else "slower"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """How much worse a figure of B may be than A's: +0.05 of a quantile, -0.03 of throughput."""

    figure: str
    fraction: float

    def __str__(self) -> str:
        name = {"p999": "p99.9", "p9999": "p99.99"}.get(self.figure, self.figure)
        return f"{name} {100 * self.fraction:+.3g}%"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison(Shown):
    """B against A: two saved results, or runs of both that alternated.

    ``gates`` pairs each gate with ``"held"``, ``"crossed"`` (beyond noise, with the whole interval)
    or ``"open"`` (the interval has parts on both sides, or the figure was not quoted).
    ``unlike``: what else is different between the two, such as the machine or the number of
    callers. ``runs`` are A's and B's in the order they were made, in ``sides``. ``outputs`` says
    whether both compute the same, by ``torch.testing``'s tolerances; empty of saved results.
    ``failed_fractions``: how many of the calls of A and of B failed. Where more of B's do, no gate
    is held.
    """

    a: str
    b: str
    asked: dict[str, Any]
    status: str
    differences: tuple[Difference, ...]
    gates: tuple[tuple[Gate, str], ...]
    unlike: tuple[str, ...]
    sides: tuple[str, ...]
    runs: tuple[StudyRun, ...]
    outputs: str = ""
    outputs_alike: bool = True
    failed_fractions: tuple[float, float] = (0.0, 0.0)
    environment: dict[str, Any] = field(default_factory=dict)
    made_by: str | None = None
    warnings: tuple[RunWarning, ...] = ()

    @property
    def is_of_results(self) -> bool:
        """Whether two saved results were compared, and nothing was run."""
        return "results" in self.asked

    @property
    def fails_more(self) -> bool:
        """Whether more of B's calls fail than of A's."""
        a, b = self.failed_fractions
        return b > a

    @property
    def crossed(self) -> tuple[Gate, ...]:
        """The gates that were crossed."""
        return tuple(gate for gate, what in self.gates if what == "crossed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One run of a search at one rate: what it said of each limit.

    ``verdict``: ``"kept"``, ``"broken"``, ``"open"`` (too few calls to say), or ``"unstable"``:
    calls piled up, whatever their latency. ``confirms``: it was made to confirm the answer.
    """

    rate_per_s: float
    verdict: str
    judgements: tuple[Judgement, ...]
    confirms: bool
    run: StudyRun


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxRate(Shown):
    """The highest rate that keeps the limits, and how that is known.

    ``rate_per_s`` is ``None`` where no rate was found that does; ``reason`` says why, or what ended
    the search. ``confirmation`` is the run at the answer, made for nothing else;
    ``next_rate_per_s`` the lowest rate that was not found to keep them, ``next_verdict`` what was
    found there.
    ``closed_loop_per_s``: what the callers make without a pause.
    """

    target: str
    asked: dict[str, Any]
    status: str
    limits: tuple[Limit, ...]
    rate_per_s: float | None
    confirmed: bool
    reason: str
    closed_loop_per_s: float | None
    next_rate_per_s: float | None
    next_verdict: str | None
    probes: tuple[Probe, ...]
    took_s: float
    warnings: tuple[RunWarning, ...] = ()
    environment: dict[str, Any] = field(default_factory=dict)
    made_by: str | None = None

    @property
    def confirmation(self) -> Probe | None:
        """The run that confirmed the answer, or tried to."""
        mine = [one for one in self.probes if one.confirms and one.rate_per_s == self.rate_per_s]
        return mine[-1] if mine else None
