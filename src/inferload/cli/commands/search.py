"""``inferload search``: the highest rate that keeps limits."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import typer

from inferload.cli import output
from inferload.cli.request import flags, values
from inferload.cli.studies import asked_of, identity_of, study, with_batches

OWN = {"limit", "resolution", "time_limit", "max_batches", "max_delays"}


@flags.with_options("search")
def search_command(
    context: typer.Context,
    model: flags.Model,
    limit: Annotated[
        list[str],
        typer.Option(
            metavar="LIMIT",
            help="p99<=20ms, errors<=1%, throughput>=200 (the least that will do); of answers in "
            "pieces first p99<=200ms, gap p99<=50ms, goodput>=20/s. May be given again for more "
            "limits.",
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
    max_batches: Annotated[
        str | None,
        typer.Option(metavar="N,...", help="Up to so many requests a batch: a search for each."),
    ] = None,
    max_delays: Annotated[
        str | None,
        typer.Option(metavar="TIME,...", help="How long a batch is held back: a search for each."),
    ] = None,
    json: flags.StudyJson = None,
    **words: Any,
) -> None:
    """Find the highest rate of calls at which MODEL keeps its limits, and confirm it.

    The rate is bisected below what the callers make without a pause. Each probe goes on until its
    calls say whether the limits are kept; the answer is run once more, for nothing else. Of several
    --max-batches and --max-delays the best is found; what does not keep the limits a little above
    it is searched no further.
    """
    from inferload import units
    from inferload.stats.limits.limit import limits_from_texts
    from inferload.studies.child.bench import ChildBench
    from inferload.studies.records.max_rate import MaxRate
    from inferload.studies.search import SearchPlan, run_search
    from inferload.studies.search_over import SearchOver

    limits = limits_from_texts(limit)
    asked = asked_of(context, OWN)
    if asked["arrivals"] is not None:
        asked = asked.but(rate=1.0)  # each probe has its own
    read = {
        "max_batch": None if max_batches is None else values.counts("max-batches", max_batches),
        "max_delay_s": None if max_delays is None else values.delays("max-delays", max_delays),
    }
    axes = {name: list(own) for name, own in read.items() if own is not None}
    asked = with_batches(asked, axes)
    more = {"axes": axes} if axes else {}
    words = identity_of(asked, **more, limits=[str(one) for one in limits], resolution=resolution)
    plan = SearchPlan(
        target=asked.model,
        asked=words,
        options=asked.options(),
        limits=limits,
        resolution=units.fraction(resolution),
        time_limit_s=units.duration_s(time_limit),
    )
    search = SearchOver(plan=plan, axes=axes).run if axes else partial(run_search, plan)
    with ChildBench(asked.source()) as bench:
        found = study(
            asked,
            MaxRate,
            words,
            lambda observer, done, keep: search(bench, observer, done=done, keep=keep),
        )
    if found.status == "failed":
        output.say(found.reason)
    if not found.confirmed or any(one.status == "failed" for one in found.rivals):
        raise typer.Exit(output.EXIT_FAILED)
