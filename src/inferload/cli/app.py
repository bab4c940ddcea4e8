"""The commands together, and what their exceptions become."""

from __future__ import annotations

import functools
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from inferload.cli import output, terminal
from inferload.cli.interrupts import until_command
from inferload.errors import InferloadError
from inferload.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

#: The module that has ``VERB_command``, imported when the verb is asked for, and its line in
#: ``inferload --help``: the first of its own help.
VERBS = {
    "run": (
        "inferload.cli.commands.run",
        "Call MODEL from many callers at once and report what each of them saw.",
    ),
    "sweep": (
        "inferload.cli.commands.sweep",
        "Run MODEL with several values of one or two settings, and show what each brings.",
    ),
    "search": (
        "inferload.cli.commands.search",
        "Find the highest rate of calls at which MODEL keeps its limits, and confirm it.",
    ),
    "tune": (
        "inferload.cli.commands.tune",
        "Find the configuration that makes the most of MODEL within the machine's cores.",
    ),
    "compare": (
        "inferload.cli.commands.compare",
        "Say whether B is faster or slower than A, and by how much.",
    ),
    "explain": (
        "inferload.cli.commands.explain",
        "Say what bounds MODEL, by changes that are tried, and which of them make more.",
    ),
    "forecast": (
        "inferload.cli.commands.forecast",
        "Forecast response times at rates, numbers of replicas and batches that were not measured.",
    ),
    "report": (
        "inferload.cli.commands.report",
        "Draw the report of a saved run or study again, or of several runs side by side.",
    ),
    "export": (
        "inferload.cli.commands.export",
        "Write a saved run for other tools; the ending of each file says how.",
    ),
    "doctor": (
        "inferload.cli.commands.doctor",
        "Say what this machine offers, whether native callers are available, and why not.",
    ),
}


def command_of(verb: str) -> Any:
    """The command of a verb, with its flags."""
    home, _ = VERBS[verb]
    alone = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    alone.command(verb)(_interruptible(getattr(import_module(home), f"{verb}_command")))
    return typer.main.get_command(alone)


class _Verbs(TyperGroup):
    """Knows each verb by its line of help, until one is called or completed."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        verb, command, rest = super().resolve_command(ctx, args)
        return verb, command if verb is None else command_of(verb), rest


app = typer.Typer(
    cls=_Verbs,
    name="inferload",
    help="The truth about a PyTorch model that many callers use at once.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


class _InterruptedError(Exception):
    """Stands for a KeyboardInterrupt, which typer would turn into a silent exit."""


def _interruptible(function: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(function)
    def interruptible(*args: object, **kwargs: object) -> None:
        try:
            until_command.end()
            function(*args, **kwargs)
        except KeyboardInterrupt:
            raise _InterruptedError from None

    return interruptible


def _by_its_line() -> None:
    """Stands for a verb in the list of all."""


for _verb, (_, _line) in VERBS.items():
    app.command(_verb, help=_line)(_by_its_line)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        terminal.console().print(f"inferload {__version__}")
        raise typer.Exit


def _elsewhere(error: Exception) -> str | None:
    """Which verbs have a flag that the one which was asked has not; ``None``: it is nobody's."""
    flag, context = getattr(error, "option_name", None), getattr(error, "ctx", None)
    if not isinstance(flag, str) or context is None:
        return None
    from inferload.plan.option_table import FLAGS

    rows = [row for row in FLAGS if f"--{row.flag}" == flag]
    verbs = [verb for verb in VERBS if any(verb in row.verbs for row in rows)]
    if not verbs or context.info_name in verbs:
        return None
    own = ", which explains --callers that call one after another" * (
        context.info_name == "explain"
    )
    said = f"{flag} is no flag of inferload {context.info_name}{own}: {', '.join(verbs)} "
    said += "has it" if len(verbs) == 1 else "have it"
    alike = [one for one in getattr(error, "possibilities", None) or () if one.startswith(flag)]
    return said + (f", or is it {' or '.join(alike)}?" if alike else "")


def invoked() -> int:
    """Run the command line; its exit code.

    Raises:
        KeyboardInterrupt: there is no result.
    """
    try:
        return app(standalone_mode=False) or 0
    except (_InterruptedError, typer.Abort):
        raise KeyboardInterrupt from None
    except InferloadError as error:
        output.say(str(error))
        return output.EXIT_WRONG_USE
    except BrokenPipeError:  # of what typer prints: nobody reads it any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        elsewhere = _elsewhere(error)
        show = (
            getattr(error, "show", None)
            if elsewhere is None
            else functools.partial(output.say, elsewhere)
        )
        if show is not None:
            if os.environ.get("RANK", "0") == "0":  # of a cluster one rank says it for all
                show()
            return output.EXIT_WRONG_USE
        if os.environ.get("INFERLOAD_DEBUG"):
            raise
        output.say(f"{type(error).__name__}: {error} (INFERLOAD_DEBUG=1 shows where)")
        return output.EXIT_FAILED
