"""``inferload search``: the highest rate that keeps limits."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from inferload.cli import output
from inferload.cli.request import flags
from inferload.cli.studies import asked_of, identity_of, study

OWN = {"limit", "resolution", "time_limit"}


@flags.with_options("search")
def search_command(
    context: typer.Context,
    model: flags.Model,
    limit: Annotated[
        list[str],
        typer.Option(
            metavar="LIMIT",
            help="p99<=20ms, errors<=1%, or throughput>=200 (the least that will do). May be given "
            "again for more limits.",
        ),
    ],
    resolution: Annotated[
        str,
        typer.Option(
            metavar="FRACTION",
            help="How near the highest rate that is kept and the lowest that is not are to come.",
        ),
    ] = "1%",
    time_limit: Annotated[
        str, typer.Option(metavar="TIME", help="About how long the search may take.")
    ] = "2m",
    json: flags.StudyJson = None,
    **words: Any,
) -> None:
    """Find the highest rate of calls at which MODEL keeps its limits, and confirm it.

    The rate is bisected below what the callers make without a pause. Each probe goes on until its
    calls say whether the limits are kept; the answer is run once more, for nothing else.
    """
    from inferload import units
    from inferload.stats.limits.limit import limits_from_texts
    from inferload.studies.child.bench import ChildBench
    from inferload.studies.records.max_rate import MaxRate
    from inferload.studies.search import SearchPlan, run_search

    limits = limits_from_texts(limit)
    asked = asked_of(context, OWN)
    if asked["arrivals"] is not None:
        asked = asked.but(rate=1.0)  # each probe has its own
    words = identity_of(asked, limits=[str(one) for one in limits], resolution=resolution)
    plan = SearchPlan(
        target=asked.model,
        asked=words,
        options=asked.options(),
        limits=limits,
        resolution=units.fraction(resolution),
        time_limit_s=units.duration_s(time_limit),
    )
    with ChildBench(asked.source()) as bench:
        found = study(
            asked,
            MaxRate,
            words,
            lambda observer, done, keep: run_search(plan, bench, observer, done=done, keep=keep),
        )
    if found.status == "failed":
        output.say(found.reason)
    if not found.confirmed:
        raise typer.Exit(output.EXIT_FAILED)
