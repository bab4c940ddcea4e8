"""``inferload compare``: B against A, by saved results or by runs that alternate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inferload.cli import output
from inferload.cli.comparing import compared_models, how_from_words
from inferload.cli.request import flags
from inferload.cli.request.made_by import made_by
from inferload.cli.studies import asked_of, written
from inferload.files import is_there

if TYPE_CHECKING:
    from inferload.studies.records.comparison import Comparison, Gate

OWN = {"a", "b", "forms", "revisions", "pairs", "gate", "precision", "time_limit"}


@flags.with_options("compare")
def compare_command(
    context: typer.Context,
    a: Annotated[
        str,
        typer.Argument(
            metavar="A", help="A saved result (.json), or a MODEL as for inferload run."
        ),
    ],
    b: Annotated[
        str | None, typer.Argument(metavar="B", help="What is compared with it, of the same kind.")
    ] = None,
    forms: Annotated[
        str | None, typer.Option(metavar="FORM,FORM", help="Instead of B: two forms of one MODEL.")
    ] = None,
    revisions: Annotated[
        str | None,
        typer.Option(
            metavar="REV,REV",
            help="Instead of B: MODEL at two revisions of git; . is the working tree.",
        ),
    ] = None,
    pairs: Annotated[
        int | None,
        typer.Option(
            help="Pairs of fresh processes, 6 or more; of whole runs 10 or more, in turn.",
            show_default="as many as --time-limit has room for; of whole runs 10",
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="FRACTION",
            help="Enough is known when the throughput's interval is within, as 2%.",
        ),
    ] = None,
    time_limit: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Ends it, after 6 pairs of processes at the earliest.",
            show_default="2m",
        ),
    ] = None,
    gate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GATE",
            help='How much worse B may be: "p99 +5%", "throughput -3%". Exit code 1 if it is worse '
            "beyond noise, 4 if that cannot be told.",
        ),
    ] = None,
    json: flags.StudyJson = None,
    **words: Any,
) -> None:
    """Say whether B is faster or slower than A, and by how much.

    Models stay loaded and are called in turn by short slices, in pairs of fresh processes. Where
    calls have no slices (--rate, servers, several processes, --duration or --calls), whole runs are
    made in turn (A B B A). Results are compared by their own intervals.
    """
    from inferload.errors import PlanError
    from inferload.files import beside, check_apart
    from inferload.studies.differences import gate_from_text

    gates = tuple(map(gate_from_text, gate or ()))
    saved = [one is not None and one.endswith(".json") for one in (a, b)]
    if any(saved):
        if b is None:
            raise PlanError(f"{a} is a result: give another one to compare with it")
        if not all(saved):
            raise PlanError(f"{a} and {b} cannot be compared: give two results, or two models")
        _check_alone(context)
        reports = output.Reports(html=words["html"], markdown=words["markdown"])
        reports.check()
        read = [Path(one) for one in (a, b)]
        read += [beside(one, ".calls") for one in read]
        check_apart({"--json": json, **reports.paths}, read)
        if json is not None:
            _check_target(json)
        found = replace(_results(a, b, gates), made_by=made_by())
        delivered = output.deliver(found, reports)
        if not written(found, json) or not delivered:
            raise typer.Exit(output.EXIT_FAILED)
    else:
        how = how_from_words(pairs, precision, time_limit, gates)
        found = compared_models(asked_of(context, OWN, model=a), b, forms, revisions, how)
    if found.crossed or (gates and found.fails_more):
        raise typer.Exit(output.EXIT_FAILED)
    if found.untold:
        raise typer.Exit(output.EXIT_CANNOT_TELL)


def _check_alone(context: typer.Context) -> None:
    """Refuse flags that are of runs: results have been run."""
    from inferload.errors import PlanError

    for name in context.params.keys() - {"a", "b", "gate", "json", "html", "markdown", "quiet"}:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise PlanError(
                f"--{name.replace('_', '-')} is of runs to be made, and two results are compared: "
                "leave it out"
            )


def _check_target(path: Path) -> None:
    """Refuse to write a comparison over something else."""
    from inferload.files import check_writable
    from inferload.studies.keeping import check_kind
    from inferload.studies.records.comparison import Comparison

    check_writable(path)
    if is_there(path):
        check_kind(path, Comparison)


def _results(a: str, b: str, gates: tuple[Gate, ...]) -> Comparison:
    from inferload.runs.saved import load_result
    from inferload.studies.compare_results import compared_results

    return compared_results(load_result(a), load_result(b), (a, b), gates)
