"""The commands together, and what their exceptions become."""

from __future__ import annotations

import functools
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from inferload.cli import output, terminal
from inferload.cli.commands.compare import compare_command
from inferload.cli.commands.doctor import doctor_command
from inferload.cli.commands.export import export_command
from inferload.cli.commands.report import report_command
from inferload.cli.commands.run import run_command
from inferload.cli.commands.search import search_command
from inferload.cli.commands.sweep import sweep_command
from inferload.cli.commands.tune import tune_command
from inferload.cli.interrupts import until_command
from inferload.errors import InferloadError
from inferload.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

app = typer.Typer(
    name="inferload",
    help="The truth about a PyTorch model that many callers use at once.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


class _InterruptedError(Exception):
    """Stands for a KeyboardInterrupt, which typer would turn into a silent exit."""


def _command(name: str, function: Callable[..., None]) -> None:
    @functools.wraps(function)
    def interruptible(*args: object, **kwargs: object) -> None:
        try:
            until_command.end()
            function(*args, **kwargs)
        except KeyboardInterrupt:
            raise _InterruptedError from None

    app.command(name)(interruptible)


_command("run", run_command)
_command("sweep", sweep_command)
_command("search", search_command)
_command("tune", tune_command)
_command("compare", compare_command)
_command("report", report_command)
_command("export", export_command)
_command("doctor", doctor_command)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        terminal.console().print(f"inferload {__version__}")
        raise typer.Exit


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
        show = getattr(error, "show", None)
        if show is not None:
            if os.environ.get("RANK", "0") == "0":  # of a cluster one rank says it for all
                show()
            return output.EXIT_WRONG_USE
        if os.environ.get("INFERLOAD_DEBUG"):
            raise
        output.say(f"{type(error).__name__}: {error} (INFERLOAD_DEBUG=1 shows where)")
        return output.EXIT_FAILED
