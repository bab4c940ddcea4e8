"""``inferload tune``: the configuration that makes the most of a model."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inferload.cli import output
from inferload.cli.request import flags, values
from inferload.cli.studies import asked_of, identity_of, study, with_batches

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferload.cli.request.asked import Asked

OWN = {
    "callers", "processes", "threads_per_call", "forms", "batch_sizes", "max_batches",
    "max_delays", "cores", "limit",
}  # fmt: skip
DEFAULT_DURATION = "30s"


@flags.with_options("tune")
def tune_command(
    context: typer.Context,
    model: flags.Model,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LIMIT",
            help="What the best must keep: p99<=20ms, errors<=1%, throughput>=200; of answers in "
            "pieces first p99<=200ms, gap p99<=50ms, goodput>=20/s. May be given again for more "
            "limits.",
        ),
    ] = None,
    callers: Annotated[
        str | None,
        typer.Option(metavar="N,...", help="Callers of each process to try, as 1..16 or 1,4."),
    ] = None,
    threads_per_call: Annotated[
        str | None, typer.Option(metavar="N,...", help="Intra-op threads of each call to try.")
    ] = None,
    processes: Annotated[
        str | None, typer.Option(metavar="N,...", help="Processes with callers to try.")
    ] = None,
    forms: Annotated[
        str | None,
        typer.Option(
            metavar="FORM,...",
            help="Forms to try: eager, script, export, compile, aoti, cudagraph. All that the "
            "model can be turned into, if not given.",
        ),
    ] = None,
    batch_sizes: Annotated[
        str | None,
        typer.Option(metavar="N,...", help="Inputs stacked to so many items, to try."),
    ] = None,
    max_batches: Annotated[
        str | None,
        typer.Option(metavar="N,...", help="Up to so many requests a batch, to try; of --clients."),
    ] = None,
    max_delays: Annotated[
        str | None,
        typer.Option(metavar="TIME,...", help="How long a batch is held back, to try."),
    ] = None,
    cores: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="How many cores callers x threads x processes may take; those of the machine if "
            "not given.",
        ),
    ] = None,
    duration: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="How long a configuration would be measured in full: the first round takes a "
            "fraction of it for each, and the pairs with the default take so long in all.",
        ),
    ] = DEFAULT_DURATION,
    json: flags.StudyJson = None,
    **words: Any,
) -> None:
    """Find the configuration that makes the most of MODEL within the machine's cores.

    Callers x threads a call x processes x form (x batch) are tried by successive halving: all of
    them briefly, the best third for three times as long, and so on. What is left is called in turn
    with the default, in pairs of fresh processes, and its margin comes from these alone.
    """
    from inferload import units
    from inferload.machine.hardware import usable_cores
    from inferload.plan.cores import memory_nodes
    from inferload.stats.limits.limit import limits_from_texts
    from inferload.studies.child.bench import ChildBench
    from inferload.studies.records.tuning import Tuning
    from inferload.studies.tune.candidates import candidates, check_tunable
    from inferload.studies.tune.plan import TunePlan
    from inferload.studies.tune.tuner import run_tune

    check_tunable(context.params["model"])
    limits = limits_from_texts(limit or ())
    full_s = units.duration_s(duration)
    asked = asked_of(context, OWN)
    given: dict[str, tuple[str, str | None, Callable[[str, str], tuple[Any, ...]]]] = {
        "callers": ("callers", callers, values.counts),
        "threads_per_call": ("threads-per-call", threads_per_call, values.counts),
        "processes": ("processes", processes, values.counts),
        "form": ("forms", forms, values.words),
        "batch_size": ("batch-sizes", batch_sizes, values.counts),
        "max_batch": ("max-batches", max_batches, values.counts),
        "max_delay_s": ("max-delays", max_delays, values.delays),
    }
    axes = {name: of(flag, text) for name, (flag, text, of) in given.items() if text is not None}
    asked = with_batches(asked, axes, always=False)
    words = identity_of(
        asked.but(duration=duration),
        axes={name: list(own) for name, own in axes.items()},
        limits=list(map(str, limits)),
        cores=cores,
    )
    plan = TunePlan(
        target=asked.model,
        asked=words,
        options=asked.but(duration=duration).options(),
        candidates=candidates(
            _with_defaults(asked, axes),
            max(int(usable_cores()), 1) if cores is None else cores,
            all_sizes=bool(limits) or asked["device"] is not None,
            nodes=memory_nodes(),
        ),
        limits=limits,
        full_s=full_s,
        words=_words(asked),
        form=asked["form"],
        is_named=True,
    )
    with ExitStack() as stack:
        bench = stack.enter_context(ChildBench(asked.source()))

        def sliced() -> dict[str, ChildBench]:
            return {
                side: stack.enter_context(ChildBench(asked.source(), fresh=True)) for side in "ab"
            }

        found = study(
            asked,
            Tuning,
            words,
            lambda observer, done, keep: run_tune(
                plan, bench, observer, sliced=sliced, done=done, keep=keep
            ),
        )
    if found.best is None:
        raise typer.Exit(output.EXIT_FAILED)


def _with_defaults(asked: Asked, axes: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    from inferload.errors import PlanError
    from inferload.studies.tune.candidates import forms_of

    if asked.members and {"form", "batch_size"} & axes.keys():
        raise PlanError("--forms and --batch-sizes are of one model, and there are several")
    if asked["form"] is not None and "form" in axes:
        raise PlanError("--form and --forms name forms: give one of the two")
    found = dict(axes)
    if asked["form"] is None and not asked.members:
        found.setdefault("form", forms_of(asked.model, on_device=asked["device"] is not None))
    if asked["device"] is not None:  # calls wait for the device; their host threads do little
        found.setdefault("threads_per_call", (1,))
    return found


def _words(asked: Asked) -> tuple[str, ...]:
    if asked.members:  # a run file is of the command line alone
        return ()
    model = f'"{asked.model}"'
    if not asked["inputs"]:
        return (model,)
    return (model, "[" + ", ".join(f'"{one}"' for one in asked["inputs"]) + "]")
