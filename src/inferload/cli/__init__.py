"""The command line: flags to objects, run, render. The only place that prints or exits."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

from inferload.cli.interrupts import until_command

EXIT_INTERRUPTED = 130


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 1 a call failed, 2 wrong use, 130 interrupted."""
    try:
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
        with until_command:
            from inferload.cli.app import invoked

            code = invoked()
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted: there is no result\n")
        code = EXIT_INTERRUPTED
    sys.exit(code)
