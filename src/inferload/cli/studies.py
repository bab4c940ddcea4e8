"""Driving a study from the command line: asked, kept, shown, and its exit code."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from inferload.cli import output
from inferload.cli.interrupts import EXIT_INTERRUPTED, noticed
from inferload.cli.request.asked import Asked
from inferload.cli.request.made_by import made_by
from inferload.cli.silent import Silent
from inferload.errors import PlanError
from inferload.files import is_file
from inferload.machine.hardware import cpu_model, usable_cores
from inferload.plan import option_table as table
from inferload.plan.model import spec_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from inferload.studies.bench import StudyObserver
    from inferload.studies.records.comparison import Comparison
    from inferload.studies.records.files import Study
    from inferload.studies.records.max_rate import MaxRate
    from inferload.studies.records.sweep import Sweep
    from inferload.studies.records.tuning import Tuning

S = TypeVar("S", "Sweep", "MaxRate", "Comparison", "Tuning")
# Where a study goes to, and what it shows, is not what it studies.
_NOT_ASKED = {"json", "html", "markdown", "quiet", "isolate"}


def asked_of(context: typer.Context, own: set[str], model: str | None = None) -> Asked:
    """What was asked of every run of a study; ``own`` names the flags that are the study's."""
    # a study has a process of its own, in which runs without processes stay; that they break the
    # limit of a run file ends none of its runs
    return Asked.from_context(context, own=own, model=model, isolate=False).but(limit=None)


def identity_of(asked: Asked, **more: Any) -> dict[str, Any]:
    """What makes two studies the same, as it is written into a file."""
    found = {
        key: asked[key]
        for key, default in table.DEFAULTS.items()
        if key not in _NOT_ASKED and asked[key] != default
    }
    if asked.members:
        found["members"] = [str(one) for one in asked.members]
    if (content := content_of(asked.model)) is not None:
        found["content"] = content
    machine = {"cpu": cpu_model(), "cores": usable_cores(), "torch": version("torch")}
    return {"model": asked.model} | found | more | {"machine": machine}


def with_batches(asked: Asked, axes: Mapping[str, Sequence[Any]], *, always: bool = True) -> Asked:
    """What was asked, with the first size of the batches that a study varies.

    ``always``: also where nothing else is said of batches.

    Raises:
        PlanError: what the study varies is given as one value as well.
    """
    for name, flag in (("max_batch", "max-batch"), ("max_delay", "max-delay")):
        of = "max_batch" if name == "max_batch" else "max_delay_s"
        if of in axes and asked[name] is not None:
            several = "max-batches" if name == "max_batch" else "max-delays"
            raise PlanError(
                f"--{flag} {asked[name]} and --{several} are both given: leave one of them out"
            )
    said = asked["batch_pad"] is not None or asked["batch_sizes_allowed"] is not None
    if "max_batch" in axes and (always or said or asked["max_delay"] is not None):
        return asked.but(max_batch=axes["max_batch"][0])
    return asked


def content_of(model: str) -> str | None:
    """What tells one state of a model's file from another; ``None`` of a module's name."""
    path = Path(spec_parts(model)[0])
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if is_file(path) else None


def written(found: Study, path: Path | None) -> bool:
    """Write a study down, if it is asked for; where that fails, say why, and be false."""
    from inferload.studies.keeping import trouble_saving

    trouble = None if path is None else trouble_saving(found, path)
    if trouble is not None:
        output.say(trouble)
    return trouble is None


def study(
    asked: Asked,
    kind: type[S],
    words: dict[str, Any],
    run: Callable[[StudyObserver, S | None, Callable[[S], None]], S],
) -> S:
    """Make a study and show it.

    Raises:
        PlanError: it cannot be made.
        typer.Exit: it was interrupted, or ended by a call that failed or a crash.
    """
    from inferload.cli.progress import StudyProgress
    from inferload.records.endings import CallError, TargetCrashed
    from inferload.studies.keeping import StudyKeeper
    from inferload.studies.records.endings import StudyInterrupted

    asked.check_reports()
    keeper = StudyKeeper(asked.json, kind, words)
    command = made_by()

    def keep(study: S) -> None:
        keeper.keep(replace(study, made_by=command))

    progress = StudyProgress(output.errors)
    if keeper.done is not None and not asked.quiet:
        progress.found(f"going on with {asked.json}, which was interrupted")
    try:
        found = run(Silent() if asked.quiet else progress, keeper.done, keep)
    except StudyInterrupted as interrupt:
        noticed()
        progress.close()
        output.deliver(interrupt.study, asked.reports)
        again = "the same command goes on from here"
        if asked.json is None:
            again = "with --json FILE the same command would go on from here"
        if keeper.trouble is not None:
            again = keeper.trouble
        output.say(f"{interrupt}: {again}")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except (CallError, TargetCrashed) as error:
        progress.close()
        output.say(output.with_place(error))
        if keeper.kept:
            output.say(f"the runs before it are kept in {asked.json}, and the same command goes on")
        crashed = isinstance(error, TargetCrashed)
        raise typer.Exit(output.EXIT_CRASHED if crashed else output.EXIT_FAILED) from None
    finally:
        progress.close()
    found = replace(found, made_by=command)
    delivered = output.deliver(found, asked.reports)
    if keeper.trouble is not None:
        output.say(keeper.trouble)
        delivered = False
    if not delivered:
        raise typer.Exit(output.EXIT_FAILED)
    return found
