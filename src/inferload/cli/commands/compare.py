"""``inferload compare``: B against A, by saved results or by runs that alternate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inferload.cli import output
from inferload.cli.request import flags, values
from inferload.cli.request.made_by import made_by
from inferload.cli.studies import asked_of, content_of, identity_of, study
from inferload.files import is_there

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from inferload.cli.request.asked import Asked
    from inferload.studies.bench import StudyObserver
    from inferload.studies.child.tree import Tree
    from inferload.studies.records.comparison import Comparison, Gate

OWN = {"a", "b", "forms", "revisions", "pairs", "gate"}
DEFAULT_DURATION = "3s"


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
    pairs: Annotated[int, typer.Option(help="Runs of each side, in turn; 10 or more.")] = 10,
    gate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GATE",
            help='Exit code 1 if B is worse beyond noise: "p99 +5%", "throughput -3%".',
        ),
    ] = None,
    json: flags.StudyJson = None,
    **words: Any,
) -> None:
    """Say whether B is faster or slower than A, and by how much.

    Models are run in turn (A B B A ...), each run in a process of its own for --duration (3s), so
    that what the machine does meanwhile meets both. Results are compared by their own intervals.
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
        if not (json is None or _saved(found, json)) or not delivered:
            raise typer.Exit(output.EXIT_FAILED)
    else:
        found = _pairs(asked_of(context, OWN, model=a), b, forms, revisions, pairs, gates)
    if found.crossed or (gates and found.fails_more):
        raise typer.Exit(output.EXIT_FAILED)


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


def _saved(found: Comparison, path: Path) -> bool:
    from inferload.studies.records.files import save_study

    try:
        save_study(found, path)
    except OSError as error:
        output.say(f"{path} could not be written: {error.strerror}")
        return False
    return True


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


def _pairs(
    asked: Asked,
    b: str | None,
    forms: str | None,
    revisions: str | None,
    pairs: int,
    gates: tuple[Gate, ...],
) -> Comparison:
    from contextlib import ExitStack

    from inferload.errors import PlanError
    from inferload.plan.arrivals.stages import rate_from_text
    from inferload.studies.child.bench import ChildBench
    from inferload.studies.compare import ComparePlan, peak_pairs, run_pairs, said_of
    from inferload.studies.records.comparison import Comparison

    if sum(one is not None for one in (b, forms, revisions)) != 1:
        raise PlanError(
            "A is compared with one thing: give a second MODEL, --forms FORM,FORM or "
            "--revisions REV,REV"
        )
    staged = asked["rate"] is not None and isinstance(rate_from_text(asked["rate"]), tuple)
    if asked["duration"] is None and asked["calls"] is None and not staged:
        asked = asked.but(duration=DEFAULT_DURATION)
    with ExitStack() as stack:
        sides = _sides(asked, b, forms, revisions, stack)
        names = [side.name for side in sides]
        words = identity_of(asked, b=names[1], a=names[0], pairs=pairs, gates=list(map(str, gates)))
        words["content"] = [side.content for side in sides]
        options = [side.asked.options() for side in sides]
        plan = ComparePlan(
            a=names[0],
            b=names[1],
            asked=words,
            options=options[0],
            options_b=options[1],
            pairs=pairs,
            gates=gates,
            peak_pairs=peak_pairs([side.asked.model for side in sides], options[0]),
        )
        first, second = (
            stack.enter_context(ChildBench(side.asked.source(), fresh=True, tree=side.tree))
            for side in sides
        )

        def run(
            observer: StudyObserver, done: Comparison | None, keep: Callable[[Comparison], None]
        ) -> Comparison:
            def outputs() -> tuple[bool, str]:
                with said_of(f"A, {plan.a}"):
                    others = first.outputs(plan.options_of("a"), observer)
                with said_of(f"B, {plan.b}"):
                    return second.told_apart(others, plan.options_of("b"), observer)

            benches = {"a": first, "b": second}
            return run_pairs(plan, benches, observer, outputs=outputs, done=done, keep=keep)

        return study(asked, Comparison, words, run)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    name: str
    asked: Asked
    tree: Tree | None = None
    #: What tells one state of it from another.
    content: str | None = None


def _sides(
    asked: Asked, b: str | None, forms: str | None, revisions: str | None, stack: ExitStack
) -> list[_Side]:
    """The two sides: two models, two forms of one, or one at two revisions."""
    from inferload.cli.request.revisions import WORKING_TREE, checked_out, commit_of
    from inferload.errors import PlanError
    from inferload.plan.model import FORMS

    if b is not None:
        return [
            _Side(name=one, asked=asked.side(one, other), content=content_of(one))
            for one, other in ((asked.model, b), (b, asked.model))
        ]
    flag, text = ("forms", forms) if forms is not None else ("revisions", revisions or "")
    both = values.words(flag, text or "")
    if len(both) != 2 or both[0] == both[1]:
        raise PlanError(f"--{flag} {text!r} are not two: give two {flag} with a comma between them")
    if forms is not None:
        for form in both:
            if form not in FORMS:
                raise PlanError(f"form {form!r} is unknown: choose {', '.join(FORMS)}")
        if asked["form"] is not None:
            raise PlanError("--form and --forms name forms: give one of the two")
        content = content_of(asked.model)
        return [
            _Side(name=f"{asked.model} ({form})", asked=asked.but(form=form), content=content)
            for form in both
        ]
    if Path(asked.model).is_absolute():
        raise PlanError(
            f"{asked.model} is the same file at any revision: name it from within the repository"
        )
    commits = [commit_of(one) for one in both]
    if commits[0] == commits[1]:
        raise PlanError(f"{both[0]} and {both[1]} are the same revision, {commits[0][:10]}")
    return [
        _Side(
            name=f"{asked.model} at {_revision_text(one, commit)}",
            asked=asked,
            tree=stack.enter_context(checked_out(one)),
            content=content_of(asked.model) if one == WORKING_TREE else commit,
        )
        for one, commit in zip(both, commits, strict=True)
    ]


def _revision_text(revision: str, commit: str) -> str:
    if revision == commit:
        return "the working tree" if revision == "." else revision
    return f"{revision} ({commit[:10]})"
