"""The flags of a verb: those of its own, and those that the table of options has for it."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from inferload.plan import option_table as table

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferload.plan.option_row import Row

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="path/file.py:name, package.module:name, a TorchScript .pt, or a .pt2 (exported "
        "program or AOTInductor package). NAME is a module, a function that takes the inputs, or "
        "one without arguments that returns either (default: model); the file may define inputs() "
        "too. Or a run file, mix.toml, with any of these options and one model or several.",
    ),
]
#: Of studies, which are kept while they are made.
StudyJson = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Save the study after every run; the same command goes on with it."
    ),
]


def with_options(verb: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the flags of its verb, beside those that it names itself.

    A flag of its own that is named as one of the table stands in that one's place.
    """

    def made(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        own = {
            one.name: one.replace(annotation=hints[one.name])
            for one in inspect.signature(command).parameters.values()
            if one.kind is not one.VAR_KEYWORD
        }
        rows = [row for row in table.FLAGS if verb in row.verbs or row.key in own]
        keys = {row.key for row in rows}
        first = [one for one in own.values() if one.name not in keys]
        rest = [own.get(row.key) or _parameter(row) for row in rows]

        def with_all(**words: Any) -> None:
            command(**words)

        parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in [*first, *rest]]
        with_all.__doc__ = command.__doc__
        with_all.__annotations__ = {one.name: one.annotation for one in parameters}
        with_all.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return with_all

    return made


def _parameter(row: Row) -> inspect.Parameter:
    """A flag as typer reads it."""
    kind: Any = list[str] if row.kind is list else row.kind if row.unit is None else str
    if row.default is None:
        kind |= None
    names = [f"--{row.flag}"]
    if row.kind is bool and row.default:
        names = [f"--{row.flag}/--no-{row.flag}"]
    completes = row.completes or row.one_of
    found = typer.Option(
        *names,
        metavar=row.metavar,
        help=row.help,
        autocompletion=_starting(completes) if completes else None,
    )
    return inspect.Parameter(
        row.key,
        inspect.Parameter.KEYWORD_ONLY,
        default=row.default,
        annotation=Annotated[kind, found],
    )


def _starting(words: tuple[str, ...]) -> Callable[[str], list[str]]:
    """What the shell completes to."""
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]
