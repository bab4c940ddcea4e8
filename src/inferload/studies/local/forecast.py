"""``forecast()``: what a fleet will do, from what one machine did."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inferload.errors import PlanError
from inferload.files import as_path
from inferload.plan.arrivals.loads import OpenLoop
from inferload.records.result import RunResult
from inferload.runs.run import Logging
from inferload.stats.limits.limit import limits_given
from inferload.studies.forecast.forecaster import run_forecast
from inferload.studies.forecast.plan import ForecastPlan
from inferload.studies.forecast.sources import loaded, source_of
from inferload.studies.keeping import keep
from inferload.studies.local.search import varied
from inferload.studies.records.sweep import Sweep

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from inferload.plan.batching import Batching
    from inferload.studies.bench import StudyObserver
    from inferload.studies.records.forecast import Forecast

    Result = RunResult | Sweep | str | os.PathLike[str]


def forecast(
    results: Result | Sequence[Result],
    *,
    rates_per_s: Iterable[float] | float | None = None,
    replicas: Iterable[int] | int | None = None,
    callers: int | None = None,
    balancing: str = "random",
    load: OpenLoop | None = None,
    batching: Batching | None = None,
    limit: object = None,
    lost: int = 0,
    requests: int | None = None,
    save: str | os.PathLike[str] | None = None,
    observer: StudyObserver | None = None,
) -> Forecast:
    """Forecast response times at rates, numbers of replicas and batches that were not measured.

    Requests are simulated one by one: a replica has one queue, and its calls take what they took in
    ``results`` while as many were under way. Where that was measured with an interval, figures are
    told with what they are at either end of it.

    Args:
        results: a sweep over callers (and batches), or runs in closed loops, one a number of
            callers; or their files.
        rates_per_s: requests due per second at all replicas together; 30 to 95 % of what they make
            if not given.
        replicas: machines like the one that was measured; 1 if not given, or with rates and limits
            as many as are needed.
        callers: calls that a replica has at once; those with which it makes most if not given.
        balancing: ``"random"``, ``"round-robin"``, ``"two-choices"`` (the less loaded of two drawn
            at random) or ``"least-loaded"``, by requests that are queued or under way.
        load: how requests come, whatever its rate: Poisson if not given; a replay has its own.
        batching: requests are called together. Its ``pad`` and ``sizes_allowed`` are not looked at:
            what was measured has them.
        limit: what is promised, as ``"p99<=50ms"``; several in a list.
        lost: so many of the replicas do not serve.
        requests: how many are simulated at each point.
        save: where to write the forecast.
        observer: is told of each point.

    Raises:
        PlanError: what was measured does not tell it.
        ResultFormatError: a file is no result.
    """
    if isinstance(results, RunResult | Sweep | str | os.PathLike):
        results = [results]
    read: list[RunResult | Sweep] = []
    names: list[str] = []
    for number, one in enumerate(results):
        if isinstance(one, RunResult | Sweep):
            read.append(one)
            names.append(f"result {number + 1}")
        elif isinstance(one, str | os.PathLike):
            path = Path(as_path("results", one))
            read += loaded([path])
            names.append(str(path))
        else:
            raise PlanError(f"results has {one!r}: give sweeps, runs, or their files")
    plan = ForecastPlan(
        asked={},
        load=load or OpenLoop.poisson(1.0),
        rates_per_s=() if rates_per_s is None else _some("rates_per_s", rates_per_s),
        replicas=None if replicas is None else _some("replicas", replicas),
        callers=callers,
        balancing=balancing,
        batching=batching,
        limits=limits_given(limit),
        lost=lost,
        requests=requests,
    )
    found = run_forecast(plan, source_of(read, names), observer or Logging())
    if save is not None:
        keep(found, Path(as_path("save", save)))
    return found


def _some(name: str, given: object) -> tuple[Any, ...]:
    """The values of an argument, of which there must be one.

    Raises:
        PlanError: there is none.
    """
    found = varied(given)
    if not found:
        raise PlanError(f"{name} is empty: leave it out, or give values")
    return found
