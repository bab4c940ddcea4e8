"""Pure data: what tuning leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from inferload.records.figures import RunWarning
from inferload.records.shown import Shown
from inferload.stats.limits.judging import Judgement
from inferload.stats.limits.limit import Limit
from inferload.studies.records.comparison import Comparison
from inferload.studies.records.settings import (
    Settings,
    StudyRun,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One run of a candidate in one round; ``judgements``: what its calls said of each limit."""

    round: int
    run: StudyRun
    judgements: tuple[Judgement, ...] = ()

    @property
    def items_per_s(self) -> float:
        """How many items a second it made; 0 where it failed."""
        summary = self.run.summary
        return 0.0 if summary is None else summary.throughput_items_per_s.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """The candidate that was left, run in turn with the default: ``margin`` is it over the default.

    ``judgements``: of each of its runs in the pairs, what the calls said of each limit;
    ``default_judgements``: of those of the default.
    """

    settings: Settings
    margin: Comparison
    judgements: tuple[tuple[Judgement, ...], ...] = ()
    default_judgements: tuple[tuple[Judgement, ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning(Shown):
    """The configuration that makes the most of a model, and how that is known.

    ``best`` is ``None`` where none keeps the ``limits``; ``reason`` says why. ``rounds`` has how
    many candidates each round began with, and for how many seconds each was measured.
    ``confirmations``: of each that was taken for the best and run in turn with the default.
    ``command`` and ``code``: how to run it; ``made_by``: the command line that made the study.
    """

    target: str
    asked: dict[str, Any]
    status: str
    limits: tuple[Limit, ...]
    default: Settings
    candidates: tuple[Settings, ...]
    rounds: tuple[tuple[int, float], ...]
    trials: tuple[Trial, ...]
    best: Settings | None
    reason: str
    confirmations: tuple[Confirmation, ...] = ()
    command: str = ""
    code: str = ""
    took_s: float = 0.0
    warnings: tuple[RunWarning, ...] = ()
    environment: dict[str, Any] = field(default_factory=dict)
    made_by: str | None = None

    @property
    def runs_made(self) -> int:
        """How many runs there were, those of the pairs too."""
        return len(self.trials) + sum(len(one.margin.runs) for one in self.confirmations)

    @property
    def margin(self) -> Comparison | None:
        """The best over the default."""
        mine = [one.margin for one in self.confirmations if one.settings == self.best]
        return mine[-1] if mine else None

    def latest(self, settings: Settings) -> Trial | None:
        """The middle one of a candidate's trials in the last round that it came to, by throughput.

        One that failed, if any of them did.
        """
        mine = [one for one in self.trials if one.run.settings == settings]
        mine = [one for one in mine if one.round == mine[-1].round]
        failed = [one for one in mine if one.run.failure is not None or one.run.summary is None]
        if failed or not mine:
            return failed[-1] if failed else None
        return sorted(mine, key=lambda one: one.items_per_s)[len(mine) // 2]
