"""``inferload sweep``: one or two settings, many values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from inferload.cli import output
from inferload.cli.request import flags, values
from inferload.cli.studies import asked_of, identity_of, study, with_batches

if TYPE_CHECKING:
    from collections.abc import Callable

OWN = {
    "callers", "rates", "processes", "threads_per_call", "batch_sizes", "forms", "max_batches",
    "max_delays", "blocks",
}  # fmt: skip
DEFAULT_DURATION = "2s"


@flags.with_options("sweep")
def sweep_command(
    context: typer.Context,
    model: flags.Model,
    callers: Annotated[
        str | None, typer.Option(metavar="N,...", help="Callers of each process, as 1..16 or 1,4.")
    ] = None,
    rates: Annotated[
        str | None,
        typer.Option(metavar="R,...", help="Open loops with so many calls due per second."),
    ] = None,
    processes: Annotated[
        str | None, typer.Option(metavar="N,...", help="Processes with callers.")
    ] = None,
    threads_per_call: Annotated[
        str | None, typer.Option(metavar="N,...", help="Intra-op threads of each call.")
    ] = None,
    batch_sizes: Annotated[
        str | None, typer.Option(metavar="N,...", help="Inputs stacked to so many items.")
    ] = None,
    forms: Annotated[
        str | None, typer.Option(metavar="FORM,...", help="eager, compile, script, export, aoti.")
    ] = None,
    max_batches: Annotated[
        str | None, typer.Option(metavar="N,...", help="Up to so many requests a batch.")
    ] = None,
    max_delays: Annotated[
        str | None,
        typer.Option(metavar="TIME,...", help="How long a batch is held back, as 0,1ms,5ms."),
    ] = None,
    blocks: Annotated[int, typer.Option(help="How often each point is run.")] = 3,
    json: flags.StudyJson = None,
    **words: Any,
) -> None:
    """Run MODEL with several values of one or two settings, and show what each brings.

    In each block every point is called for --duration (2s), by slices of 0.1 s in turn with the
    others, so that what the machine does meanwhile is no difference between points. Where calls
    have no slices each point is a whole run, in an order shuffled within each block.
    """
    from inferload.plan.numbers import check_count
    from inferload.studies.child.bench import ChildBench
    from inferload.studies.records.sweep import Sweep
    from inferload.studies.sweep.plan import SweepPlan
    from inferload.studies.sweep.sweeper import run_sweep

    check_count("blocks", blocks, at_least=1, at_most=1000)
    read: dict[str, tuple[str, str | None, Callable[[str, str], tuple[Any, ...]]]] = {
        "max_delay_s": ("max-delays", max_delays, values.delays),
        "max_batch": ("max-batches", max_batches, values.counts),
        "callers": ("callers", callers, values.counts),
        "rate_per_s": ("rates", rates, values.numbers),
        "processes": ("processes", processes, values.counts),
        "threads_per_call": ("threads-per-call", threads_per_call, values.counts),
        "batch_size": ("batch-sizes", batch_sizes, values.counts),
        "form": ("forms", forms, values.words),
    }
    axes = {name: of(flag, text) for name, (flag, text, of) in read.items() if text is not None}
    asked = asked_of(context, OWN)
    if asked["duration"] is None and asked["calls"] is None:
        asked = asked.but(duration=DEFAULT_DURATION)
    if rates is not None and asked["arrivals"] is not None:
        asked = asked.but(rate=1.0)  # each point has its own
    asked = with_batches(asked, axes)
    words = identity_of(asked, axes={name: list(own) for name, own in axes.items()}, blocks=blocks)
    plan = SweepPlan(
        target=asked.model, asked=words, options=asked.options(), axes=axes, blocks=blocks
    )
    with ChildBench(asked.source()) as bench:
        found = study(
            asked,
            Sweep,
            words,
            lambda observer, done, keep: run_sweep(
                plan, bench, observer, turns=bench, done=done, keep=keep
            ),
        )
    if any(one.failure is not None for one in found.runs):
        raise typer.Exit(output.EXIT_FAILED)
