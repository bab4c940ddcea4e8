"""What a study varies, and what it keeps of each of its runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from inferload.records.distribution import Distribution
from inferload.records.figures import RunWarning, SetUp, Summary
from inferload.records.result import RunResult
from inferload.records.spec import RunSpec
from inferload.stats.service import ServiceProfile
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
    max_batch: int | None = None
    max_delay_s: float | None = None

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
    return _TEXTS[name](value)


def delay_text(seconds: float) -> str:
    """How long a batch is held back, in few words.

    >>> delay_text(0.0), delay_text(0.0025)
    ('0', '2.5 ms')
    """
    return f"{seconds * 1e3:.6g} ms" if seconds else "0"


_TEXTS: dict[str, Callable[[Any], str]] = {
    "callers": lambda value: count_text(value, "caller"),
    "rate_per_s": lambda value: f"{rate_text(value)}/s",
    "processes": lambda value: f"{value:,} process{'es' * (value != 1)}",
    "threads_per_call": lambda value: f"{count_text(value, 'thread')} a call",
    "batch_size": lambda value: f"batch {value}",
    "form": lambda value: f"form {value}",
    "max_batch": lambda value: f"up to {value:,} a batch",
    "max_delay_s": lambda value: f"delay {delay_text(value)}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRun:
    """One run of a study: all of its figures, and not its log.

    ``services``: of a sweep, how long calls took, where it is known how many were under way.
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
    services: tuple[ServiceProfile, ...] = ()
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


def unit_of(runs: Iterable[StudyRun]) -> str:
    """What the rows of runs are: ``"calls"``, or ``"requests"`` of clients or in batches."""
    specs = [one.spec for one in runs if one.spec is not None]
    return f"{specs[0].unit}s" if specs else "calls"


def without_samples(summary: Summary) -> Summary:
    """A summary without the values behind its distributions."""
    bare: Summary = _bare(summary)
    return bare


def _bare(value: Any) -> Any:
    """The same without samples, at any depth."""
    if isinstance(value, Distribution):
        return replace(value, sample=None)
    if is_dataclass(value) and not isinstance(value, type):
        changed = {
            one.name: new
            for one in fields(value)
            if (new := _bare(old := getattr(value, one.name))) is not old
        }
        return replace(value, **changed) if changed else value
    if isinstance(value, tuple):
        found = tuple(map(_bare, value))
        return found if any(a is not b for a, b in zip(found, value, strict=True)) else value
    return value
