"""The command line: flags to objects, run, render. The only place that prints or exits."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from typing import NoReturn

from inferload.cli.interrupts import kept, until_command
from inferload.signals import hear

EXIT_INTERRUPTED = 130


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 1 a call failed, 2 wrong use, 130 interrupted."""
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            hear(number, signal.default_int_handler)
        with until_command:
            from inferload.cli.app import invoked
            from inferload.cli.terminal import prepare

            prepare()

            code = invoked()
    except KeyboardInterrupt:
        with suppress(OSError, ValueError, AttributeError):  # there may be nobody to tell
            sys.stderr.write(f"error: interrupted: {kept.text}\n")
        code = EXIT_INTERRUPTED
    sys.exit(code)
