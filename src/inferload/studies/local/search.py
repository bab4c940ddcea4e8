"""Studies of one model in this process: sweeps, and the highest rate that keeps limits."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from inferload.files import as_path
from inferload.plan.arrivals.loads import ClosedLoop, OpenLoop
from inferload.runs.run import Logging
from inferload.stats.limits.limit import Limit, limits_given
from inferload.studies.keeping import StudyKeeper
from inferload.studies.local.bench import LocalBench
from inferload.studies.local.options import as_written, fingerprint, options_of
from inferload.studies.records.max_rate import MaxRate
from inferload.studies.search import SearchPlan, run_search
from inferload.studies.search_over import SearchOver
from inferload.targets.loading import target_and_inputs

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from inferload.studies.bench import StudyObserver

DEFAULT_POINT_S = 2.0


def find_max_rate(
    model: object,
    inputs: object,
    limit: str | Limit | Iterable[str | Limit],
    *,
    load: ClosedLoop | OpenLoop | None = None,
    resolution: float = 0.01,
    time_limit_s: float = 120.0,
    max_batches: Iterable[int] | int | None = None,
    max_delays_s: Iterable[float] | float | None = None,
    save: str | os.PathLike[str] | None = None,
    observer: StudyObserver | None = None,
    **options: Any,
) -> MaxRate:
    """Find the highest rate of calls at which limits are kept.

    From what the callers make without a pause the rate is bisected; each probe goes on until its
    calls say whether the limits are kept, and the answer is run once more to confirm it
    (docs/studies.md).

    Args:
        model: as for :func:`inferload.run`.
        inputs: as for :func:`inferload.run`.
        limit: one or more, such as ``"p99<=20ms"``, ``"errors<=1%"``, ``"throughput>=200"``.
        load: gives the number of callers and, of an open loop, the kind of arrivals; Poisson
            arrivals and one caller if not given.
        resolution: how near the highest rate that keeps the limits and the lowest that does not
            are to come, as a fraction.
        time_limit_s: about how long the search may take.
        max_batches: up to so many requests a batch, of several the best is found.
        max_delays_s: how long a batch is held back for more requests, likewise.
        save: where to write the study after every probe; one that was interrupted goes on.
        observer: is told of stages and progress.
        options: further options of :func:`inferload.run`, such as ``executor`` and ``processes``.

    Raises:
        PlanError: there is no such search, or the model cannot be run.
        CallError, TargetCrashed: the very first run failed.
        StudyInterrupted: Ctrl-C; its ``study`` has what was done until then.
    """
    limits = limits_given(limit)
    base = options_of(options, load or ClosedLoop(), model)
    target, own_inputs = target_and_inputs(model, inputs)
    asked = {
        "model": [target.name, *fingerprint(target, own_inputs)],
        "limits": [str(one) for one in limits],
        "callers": base.load.callers,
        "arrivals": getattr(base.load, "arrivals", "poisson"),
        "resolution": resolution,
        "options": as_written(options),
    }
    given = {"max_batch": max_batches, "max_delay_s": max_delays_s}
    axes = {name: varied(value) for name, value in given.items() if value is not None}
    if axes:
        asked["axes"] = {name: list(own) for name, own in axes.items()}
    plan = SearchPlan(
        target=target.name,
        asked=asked,
        options=base,
        limits=limits,
        resolution=resolution,
        time_limit_s=time_limit_s,
    )
    keeper = StudyKeeper(None if save is None else as_path("save", save), MaxRate, asked)
    search = SearchOver(plan=plan, axes=axes).run if axes else partial(run_search, plan)
    return search(
        LocalBench.of_model(model if isinstance(model, str) else target, own_inputs),
        observer or Logging(),
        done=keeper.done,
        keep=keeper.keep,
    )


def varied(value: object) -> tuple[Any, ...]:
    """The values of a setting: one stands for itself."""
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        return (value,)
    return tuple(value)
