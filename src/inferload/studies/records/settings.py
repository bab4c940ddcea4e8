"""What a study varies, and what it keeps of each of its runs."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from inferload.records.devices import STAGE_NAMES
from inferload.records.distribution import Distribution
from inferload.records.figures import RunWarning, SetUp, Summary
from inferload.records.result import RunResult
from inferload.records.spec import RunSpec
from inferload.units import count_text, rate_text


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
