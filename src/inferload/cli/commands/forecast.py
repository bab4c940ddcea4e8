"""``inferload forecast``: what a fleet will do, from what one machine did."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from inferload.cli import output
from inferload.cli.request import flags

if TYPE_CHECKING:
    from inferload.studies.bench import StudyObserver
    from inferload.studies.forecast.plan import ForecastPlan
    from inferload.studies.forecast.sources import Source
    from inferload.studies.records.forecast import Forecast


@flags.with_options("forecast")
def forecast_command(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULT...",
            help="The JSON of a sweep over --callers (or --max-batches), or of runs in closed "
            "loops, one a number of callers.",
        ),
    ],
    rates: Annotated[
        str | None,
        typer.Option(
            metavar="R,...",
            help="Requests due per second at all replicas together; 30 to 95% of what they make.",
        ),
    ] = None,
    replicas: Annotated[
        str | None,
        typer.Option(
            metavar="N,...",
            help="Machines like the one measured; 1, or with --rates and --limit as many as are "
            "needed.",
        ),
    ] = None,
    callers: Annotated[
        int | None,
        typer.Option(help="Calls that a replica has at once; those with which it makes most."),
    ] = None,
    balancing: Annotated[
        str,
        typer.Option(metavar="KIND", help="random, round-robin, two-choices or least-loaded."),
    ] = "random",
    arrivals: Annotated[
        str, typer.Option(metavar="KIND", help="poisson, constant, gamma:SHAPE or replay:FILE.")
    ] = "poisson",
    max_batch: Annotated[
        int | None, typer.Option(metavar="N", help="Up to N requests are called together.")
    ] = None,
    max_delay: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="How long a batch is held back for more requests; 0."),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(metavar="LIMIT", help="What is promised, as p99<=50ms. May be given again."),
    ] = None,
    lost: Annotated[int, typer.Option(metavar="N", help="So many replicas do not serve.")] = 0,
    requests: Annotated[
        int | None, typer.Option(metavar="N", help="How many are simulated at each point.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws when requests come, and what they take.")] = 0,
    check: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Run the points of one replica with this model, here, as it was measured, and "
            "tell forecast against measured.",
        ),
    ] = None,
    check_duration: Annotated[
        str, typer.Option(metavar="TIME", help="How long each point is run in all.")
    ] = "30s",
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Save the forecast.")] = None,
    quiet: Annotated[bool, typer.Option(help="No progress, only the report.")] = False,
    **words: Any,
) -> None:
    """Forecast response times at rates, numbers of replicas and batches that were not measured.

    Requests are simulated one by one, with what calls took while so many were under way. Exit code
    1: --limit is not kept.
    """
    from dataclasses import replace

    from inferload.cli.progress import StudyProgress
    from inferload.cli.request.made_by import made_by
    from inferload.cli.request.values import counts, numbers
    from inferload.cli.silent import Silent
    from inferload.cli.studies import written
    from inferload.files import check_apart, check_writable
    from inferload.plan.arrivals.load_words import load_from_text
    from inferload.plan.arrivals.loads import OpenLoop
    from inferload.plan.batching import batching_from_text
    from inferload.stats.limits.limit import limits_from_texts
    from inferload.studies.forecast.plan import ForecastPlan
    from inferload.studies.forecast.sources import loaded, source_of
    from inferload.units import duration_s

    reports = output.Reports(html=words["html"], markdown=words["markdown"])
    reports.check()
    check_apart(reports.paths | {"--json": json}, results)
    if json is not None:
        check_writable(json)
    replays = arrivals.startswith("replay:")
    load = load_from_text(arrivals, None if replays else 1.0, 1, seed)
    if not isinstance(load, OpenLoop):
        raise TypeError("requests that are due are an open loop")
    plan = ForecastPlan(
        asked={"command": made_by()},
        load=load,
        rates_per_s=() if rates is None else numbers("rates", rates),
        replicas=None if replicas is None else counts("replicas", replicas),
        callers=callers,
        balancing=balancing,
        batching=batching_from_text(max_batch, max_delay, None, None),
        limits=limits_from_texts(limit or []),
        lost=lost,
        requests=requests,
    )
    source = source_of(loaded(results), [str(one) for one in results])
    if check is not None:
        _check_there(check)
    progress = StudyProgress(output.errors)
    observer, code, saved = Silent() if quiet else progress, 0, True
    try:
        found, code = _made(plan, source, observer)
        found = replace(found, made_by=made_by())
        # a check takes minutes, and may not come to its end
        saved = written(found, json)
        if check is not None and not code:
            seconds = duration_s(check_duration)
            found, code = _checked(check, seconds, found, plan, source, observer)
    finally:
        progress.close()
    if json is not None and any(one.checked is not None for one in found.points):
        saved = written(found, json)
    kept = not found.limits or any(one.keeps_all for one in found.points)
    kept = kept and all(one.replicas is not None for one in found.needed)
    delivered = output.deliver(found, reports)
    if code or not delivered or not kept or not saved:
        raise typer.Exit(code or output.EXIT_FAILED)


def _made(plan: ForecastPlan, source: Source, observer: StudyObserver) -> tuple[Forecast, int]:
    """The forecast and 0; or what there is of it, if it was interrupted, and the exit code."""
    from inferload.cli.interrupts import EXIT_INTERRUPTED, noticed
    from inferload.studies.forecast.forecaster import run_forecast
    from inferload.studies.records.endings import StudyInterrupted

    try:
        return run_forecast(plan, source, observer), 0
    except StudyInterrupted as interrupt:
        noticed()
        output.say(str(interrupt))
        return cast("Forecast", interrupt.study), EXIT_INTERRUPTED


def _check_there(model: str) -> None:
    """Refuse a file that is not there before minutes have gone by."""
    from inferload.errors import PlanError
    from inferload.files import is_file
    from inferload.plan.model import spec_parts

    path = Path(spec_parts(model)[0])
    if path.suffix in {".py", ".pt", ".pt2", ".toml"} and not is_file(path):
        raise PlanError(f"--check {path} is not there: name the model that was measured")


def _checked(
    model: str,
    point_s: float,
    forecast: Forecast,
    plan: ForecastPlan,
    source: Source,
    observer: StudyObserver,
) -> tuple[Forecast, int]:
    """The forecast with its check and 0; or as it was, and the exit code, if there is no check."""
    from inferload.cli.interrupts import EXIT_INTERRUPTED, noticed
    from inferload.cli.request.again import asked_again
    from inferload.errors import InferloadError, PlanError
    from inferload.records.endings import TargetCrashed
    from inferload.studies.child.bench import ChildBench
    from inferload.studies.forecast.checking import checked
    from inferload.studies.records.endings import StudyInterrupted

    try:
        asked = asked_again(model, source.asked, source.spec, plan.batching)
        options = asked.options()
        with ChildBench(asked.source()) as bench:
            found = checked(
                forecast,
                plan,
                source.measured,
                bench,
                options,
                observer,
                point_s=point_s,
                spec=source.spec,
            )
    except StudyInterrupted as interrupt:
        noticed()
        output.say(str(interrupt))
        return cast("Forecast", interrupt.study), EXIT_INTERRUPTED
    except KeyboardInterrupt:
        noticed()
        output.say("interrupted: the forecast has no check")
        return forecast, EXIT_INTERRUPTED
    except InferloadError as error:
        output.say(f"{output.with_place(error)}; the forecast has no check")
        codes = {TargetCrashed: output.EXIT_CRASHED, PlanError: output.EXIT_WRONG_USE}
        return forecast, codes.get(type(error), output.EXIT_FAILED)
    return found, 0
