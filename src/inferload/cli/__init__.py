"""The command line: flags to objects, run, render. The only place that prints or exits."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from inferload import __version__
from inferload.cli import output
from inferload.cli.doctor import doctor_command
from inferload.cli.run import run_command
from inferload.cli.saved import report_command

app = typer.Typer(
    name="inferload",
    help="The truth about a PyTorch model that many callers use at once.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("run")(run_command)
app.command("report")(report_command)
app.command("doctor")(doctor_command)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        Console(highlight=False).print(f"inferload {__version__}")
        raise typer.Exit


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 1 a call failed, 2 wrong use, 130 interrupted."""
    from inferload.errors import InferloadError

    code: int = 0
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    try:
        code = app(standalone_mode=False) or 0
    except (KeyboardInterrupt, typer.Abort):
        output.say("interrupted: there is no result")
        code = output.EXIT_INTERRUPTED
    except InferloadError as error:
        output.say(str(error))
        code = output.EXIT_WRONG_USE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        show = getattr(error, "show", None)
        if show is None:
            if os.environ.get("INFERLOAD_DEBUG"):
                raise
            output.say(f"{type(error).__name__}: {error} (INFERLOAD_DEBUG=1 shows where)")
            code = output.EXIT_FAILED
        else:
            show()
            code = output.EXIT_WRONG_USE
    sys.exit(code)
