"""Two models compared from the command line: by slices where they have some, else in whole runs."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from inferload.cli.request import values
from inferload.cli.studies import content_of, identity_of, study

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferload.cli.request.asked import Asked
    from inferload.studies.bench import StudyObserver
    from inferload.studies.child.tree import Tree
    from inferload.studies.records.comparison import Comparison, Gate
    from inferload.studies.slices.sides import How

DEFAULT_DURATION = "3s"


def how_from_words(
    pairs: int | None, precision: str | None, time_limit: str | None, gates: tuple[Gate, ...]
) -> How:
    """How two models are to be compared, from flags.

    Raises:
        PlanError: naming the one that is no number of its kind.
    """
    from inferload.studies.slices.sides import How
    from inferload.units import duration_s, fraction

    return How(
        pairs=pairs,
        precision=None if precision is None else fraction(precision),
        time_limit_s=None if time_limit is None else duration_s(time_limit),
        gates=gates,
    )


def compared_models(
    asked: Asked, b: str | None, forms: str | None, revisions: str | None, how: How
) -> Comparison:
    """Compare two models, two forms of one, or one at two revisions.

    Raises:
        PlanError: they cannot be compared.
        typer.Exit: it was interrupted, or ended by a call that failed or a crash.
    """
    from inferload.errors import PlanError
    from inferload.plan.arrivals.stages import rate_from_text
    from inferload.studies.child.bench import ChildBench
    from inferload.studies.compare import peak_pairs, said_of
    from inferload.studies.records.comparison import Comparison
    from inferload.studies.slices.sides import Sides, compare_sides

    if sum(one is not None for one in (b, forms, revisions)) != 1:
        raise PlanError(
            "A is compared with one thing: give a second MODEL, --forms FORM,FORM or "
            "--revisions REV,REV"
        )
    staged = asked["rate"] is not None and isinstance(rate_from_text(asked["rate"]), tuple)
    whole = asked["duration"] is not None or asked["calls"] is not None
    if not whole and not staged:
        asked = asked.but(duration=DEFAULT_DURATION)
    with ExitStack() as stack:
        both = dict(zip("ab", _sides(asked, b, forms, revisions, stack), strict=True))
        options = {side: one.asked.options() for side, one in both.items()}
        words = identity_of(asked, b=both["b"].name, a=both["a"].name, **how.told)
        words["content"] = [one.content for one in both.values()]
        sides = Sides(
            names={side: one.name for side, one in both.items()},
            options=options,
            asked=words,
            whole=whole,
            peak_pairs=peak_pairs([one.asked.model for one in both.values()], options["a"]),
        )
        benches = {
            side: stack.enter_context(ChildBench(one.asked.source(), fresh=True, tree=one.tree))
            for side, one in both.items()
        }

        def run(
            observer: StudyObserver, done: Comparison | None, keep: Callable[[Comparison], None]
        ) -> Comparison:
            def outputs() -> tuple[bool, str]:
                with said_of("a", sides.names["a"]):
                    others = benches["a"].outputs(options["a"], observer)
                with said_of("b", sides.names["b"]):
                    return benches["b"].told_apart(others, options["b"], observer)

            return compare_sides(
                sides,
                how,
                observer,
                benches=lambda: benches,
                sliced=lambda: benches,
                outputs=outputs,
                done=done,
                keep=keep,
            )

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
    from inferload.errors import PlanError
    from inferload.plan.model import FORMS
    from inferload.studies.child.revisions import (
        WORKING_TREE,
        checked_out,
        commit_of,
        revision_text,
    )

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
            name=f"{asked.model} at {revision_text(one, commit)}",
            asked=asked,
            tree=stack.enter_context(checked_out(one)),
            content=content_of(asked.model) if one == WORKING_TREE else commit,
        )
        for one, commit in zip(both, commits, strict=True)
    ]
