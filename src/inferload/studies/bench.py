"""What a run of a study is made with: its options, changed by the settings of a point."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from inferload.errors import PlanError
from inferload.plan.batching import Batching
from inferload.plan.model import FORMS
from inferload.plan.numbers import check_count
from inferload.studies.records.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.callers.crew import Observer
    from inferload.plan.options import RunOptions
    from inferload.records.result import RunResult
    from inferload.stats.limits.limit import Limit


class StudyObserver(Protocol):
    """Is told how a study goes on, and as an observer of its runs how these do."""

    def stage(self, text: str) -> None:
        """What a run is doing now."""

    def progress(self, finished_calls: int, elapsed_s: float) -> None:
        """How far the measured part of a run has come."""

    def begins(self, text: str) -> None:
        """What the study does now."""

    def found(self, text: str) -> None:
        """What came of it."""


class Bench(Protocol):
    """Makes runs of one model."""

    def run(self, settings: Settings, options: RunOptions, observer: Observer) -> RunResult:
        """One run with what the settings change.

        Raises:
            InferloadError: as ``il.run``.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What is held open to be called by slices in turn with other such.

    ``cpus``: the cores that each caller is held to; none: it may run on any. ``keep``: the calls of
    all slices are kept, to be summed up.
    """

    options: RunOptions
    settings: Settings = field(default_factory=Settings)
    cpus: tuple[tuple[int, ...], ...] = ()
    keep: bool = False


def with_settings(options: RunOptions, settings: Settings) -> RunOptions:
    """Options with what settings change, checked.

    Raises:
        PlanError: naming the option that cannot be run, and its value.
    """
    load = options.load
    if settings.callers is not None:
        load = replace(load, callers=settings.callers)
    if settings.rate_per_s is not None:
        load = load.at_rate(settings.rate_per_s, options.seed)
    return replace(
        options,
        load=load,
        batching=batching_of(options, settings),
        processes=options.processes if settings.processes is None else settings.processes,
        threads_per_call=options.threads_per_call
        if settings.threads_per_call is None
        else settings.threads_per_call,
    ).checked()


def batching_of(options: RunOptions, settings: Settings) -> Batching | None:
    """How requests are put together with what settings change.

    Raises:
        PlanError: there is a delay of batches, and no number of requests in them.
    """
    changes: dict[str, Any] = {
        name: value
        for name, value in settings.given.items()
        if name in {"max_batch", "max_delay_s"}
    }
    if not changes:
        return options.batching
    if options.batching is None and settings.max_batch is None:
        raise PlanError(
            f"a delay of {settings.max_delay_s:g} s is of batches: say how many requests they "
            "have (--max-batch 64, or several by --max-batches)"
        )
    return Batching(**changes) if options.batching is None else replace(options.batching, **changes)


def for_seconds(options: RunOptions, limits: Sequence[Limit], duration_s: float) -> RunOptions:
    """Options of a run of so many seconds; where errors are limited, none of them ends it."""
    records = any(one.figure == "errors" for one in limits)
    return replace(
        options,
        calls=None,
        precision=None,
        time_limit_s=None,
        duration_s=duration_s,
        on_error="record" if records else options.on_error,
    )


def check_settings(options: RunOptions, settings: Settings) -> None:
    """Refuse settings that cannot be run, before anything is.

    Raises:
        PlanError: naming the setting, and its value.
    """
    checked = with_settings(options, settings)
    checked.check_batching()
    if settings.form is not None and settings.form not in FORMS:
        raise PlanError(f"form {settings.form!r} is unknown: choose {', '.join(FORMS)}")
    if settings.batch_size is not None:
        check_count("batch_size", settings.batch_size, at_least=1, at_most=1_000_000)
        if checked.lanes:
            raise PlanError("batch sizes are of one model, and there are several")
