"""``inferload run --batch-sizes``: one run for each size, and a line for each run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from inferload.cli import output
from inferload.cli.interrupts import EXIT_INTERRUPTED
from inferload.cli.running import Done, measured_here

if TYPE_CHECKING:
    from pathlib import Path

    from inferload.cli.request.asked import Asked
    from inferload.errors import PlanError

# What each size has of its own.
_FILES = ("json", "html", "markdown", "trace")


def run_batch_sizes(asked: Asked) -> None:
    """Run and save each batch size; what fails at one does not keep the others.

    Raises:
        PlanError: nothing can be run.
        typer.Exit: with the exit code, unless that is 0.
    """
    from inferload.errors import PlanError
    from inferload.report.text.batches import BatchLine, batches_report

    sizes = asked.sizes()
    if not asked.isolate:
        raise PlanError(
            "--batch-sizes makes one run after another, and a call that hangs would end them all "
            "in this process: leave --no-isolate out"
        )
    asked.check_outputs()
    each = [
        replace(
            asked.but(batch_sizes=None, **{key: beside_of(asked[key], size) for key in _FILES}),
            batch_size=size,
        )
        for size in sizes
    ]
    for one in each:
        one.check_outputs()
        one.options()
    lines: list[BatchLine] = []
    refused: PlanError | None = None
    code = 0
    for size, one in zip(sizes, each, strict=True):
        if not asked.quiet:
            output.errors.print(f"batch size {size}")
        done = _measured(one)
        failure = None if done.failure is None else output.with_place(done.failure)
        lines.append(BatchLine(size=size, result=done.result, failure=failure))
        refused = done.failure if isinstance(done.failure, PlanError) else None
        code = max(code, done.code)
        if done.code == EXIT_INTERRUPTED:
            break
    if refused is not None and all(one.result is None for one in lines):
        raise refused
    output.print_drawn(batches_report(lines))
    code = code or (output.EXIT_FAILED if output.unprinted() else 0)
    if code:
        raise typer.Exit(code)


def _measured(asked: Asked) -> Done:
    """One size; what refuses it may be its size."""
    from inferload.errors import InferloadError

    try:
        return measured_here(asked)
    except InferloadError as error:
        return Done(result=None, failure=error, code=output.EXIT_FAILED)


def beside_of(path: Path | None, size: int) -> Path | None:
    """Where the result of one size goes: ``run-batch8.json`` beside ``run.json``."""
    return None if path is None else path.with_name(f"{path.stem}-batch{size}{path.suffix}")
