"""What a sweep is told as."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from inferload.records.distribution import Estimate
from inferload.records.figures import RunWarning
from inferload.records.shown import Shown
from inferload.studies.records.comparison import value_of
from inferload.studies.records.settings import Settings, StudyRun


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
    """The Universal Scalability Law fitted to a sweep over callers (``usl.fitted_usl``).

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
    block to the last, point by point. ``slice_s``: the shortest of the slices that points were
    called by in turn; ``why_runs``: why each was a whole run instead. ``status`` is ``"complete"``
    or ``"interrupted"``.
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
    slice_s: float | None = None
    why_runs: str | None = None
    warnings: tuple[RunWarning, ...] = ()
    environment: dict[str, Any] = field(default_factory=dict)
    made_by: str | None = None

    @property
    def peak(self) -> SweepPoint | None:
        """The point with the most items per second that was measured."""
        known = [one for one in self.points if one.throughput_items_per_s is not None]
        return max(known, key=lambda one: value_of(one.throughput_items_per_s), default=None)
