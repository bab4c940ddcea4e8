"""What the search for the largest rate is told as."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from inferload.records.figures import RunWarning
from inferload.records.shown import Shown
from inferload.stats.limits.judging import Judgement
from inferload.stats.limits.limit import Limit
from inferload.studies.records.settings import Settings, StudyRun


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
    ``closed_loop_per_s``: what the callers make without a pause. ``settings``: of a search over
    several, those of this one, which was the best; ``rivals`` are those of the others.
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
    settings: Settings | None = None
    rivals: tuple[MaxRate, ...] = ()

    @property
    def confirmation(self) -> Probe | None:
        """The run that confirmed the answer, or tried to."""
        mine = [one for one in self.probes if one.confirms and one.rate_per_s == self.rate_per_s]
        return mine[-1] if mine else None
