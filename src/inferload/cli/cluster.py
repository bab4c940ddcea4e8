"""A run that torchrun has started on many ranks: the first one saves and reports."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from inferload.cli import output
from inferload.cli.interrupts import EXIT_INTERRUPTED
from inferload.cli.running import crew_for, measured, reported
from inferload.cli.silent import Silent

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferload.callers.crew import Observer
    from inferload.cli.request.asked import Asked
    from inferload.plan.options import RunOptions
    from inferload.records.result import RunResult
    from inferload.runs.cluster.launch import Launch
    from inferload.runs.cluster.rank import FirstRankLostError, Rank
    from inferload.signals import PutOff


def run_as_rank(launch: Launch, words: Callable[[], Asked], *, quiet: bool) -> None:
    """Run one rank's share; the first rank saves and reports what all of them measured.

    The other ranks say nothing and exit with 0: what went wrong with them the first one says.

    Raises:
        InferloadError: on the first rank, what it or another one was refused by.
        typer.Exit: with the exit code, unless that is 0.
    """
    from inferload.signals import PutOff

    if launch.rank == 0 and not quiet:
        output.errors.print(f"importing torch, joining {launch.ranks} ranks")
    with PutOff():  # torch's initialisers would make of a signal the end of the process
        from inferload.runs.cluster.link import connected, import_store
        from inferload.runs.cluster.rank import Rank

        import_store()
    link = connected(launch, lambda text: output.errors.print(f"rank {launch.rank}: {text}"))
    with link:
        rank = Rank(link)
        (_first if launch.rank == 0 else _other)(launch, rank, words)


def _options(launch: Launch, asked: Asked) -> RunOptions:
    from inferload.errors import PlanError

    if asked["batch_sizes"] is not None:
        raise PlanError("ranks of a cluster run one batch size at a time: leave --batch-sizes out")
    return asked.options().of_rank(launch.rank, launch.ranks, launch.local_rank, launch.local_ranks)


def _first(launch: Launch, rank: Rank, words: Callable[[], Asked]) -> None:
    try:
        asked = words()
        asked.check_outputs()
        options = _options(launch, asked)

        def run(observer: Observer, then: PutOff) -> RunResult | None:
            with crew_for(asked, options, observer) as crew:
                return rank.run(crew, options, observer, then)

        reported(asked, measured(asked, options, run))
    finally:
        rank.end()


def _other(launch: Launch, rank: Rank, words: Callable[[], Asked]) -> None:
    from inferload.errors import InferloadError
    from inferload.runs.cluster.crew import LostBeforeStartError
    from inferload.runs.cluster.link import StoreLostError
    from inferload.runs.cluster.rank import FirstRankLostError

    asked: Asked | None = None
    try:
        asked = words()
        options, observer = _options(launch, asked), Silent()
        with crew_for(asked, options, observer) as crew:
            rank.run(crew, options, observer)
    except FirstRankLostError as error:
        _keep(launch.rank, None if asked is None else asked.json, error)
        raise typer.Exit(output.EXIT_CRASHED) from None
    except (StoreLostError, LostBeforeStartError) as error:
        output.say(f"rank {launch.rank}: {error}")
        raise typer.Exit(output.EXIT_CRASHED) from None
    except InferloadError as error:
        rank.refuse(error)
    except KeyboardInterrupt:
        rank.refuse(InferloadError("was interrupted before the start"))
        raise typer.Exit(EXIT_INTERRUPTED) from None  # the first rank says so


def _keep(rank: int, json: Path | None, error: FirstRankLostError) -> None:
    """Save what a rank has measured that can hand it over to nobody."""
    if json is None:
        json = Path(tempfile.mkdtemp(prefix="inferload-")) / "run.json"
    path = json.with_name(f"{json.name.removesuffix('.json')}.rank{rank}.json")
    kept = (
        f"; what this rank measured is kept in {path}"
        if output.save(error.result, path).there
        else ""
    )
    output.say(f"rank {rank}: {error}{kept}")
