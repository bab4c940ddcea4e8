"""Where the command line begins."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

from inferload.callers.processes.early import not_early, start_early
from inferload.cli.interrupts import interrupt, leave, until_command
from inferload.signals import ENDING, hear

# With these words no process for callers is needed.
_IN_THIS_PROCESS = {"--help", "-h", "--no-isolate"}


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 1 a call failed, 2 wrong use, 130 interrupted."""
    try:
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:  # as of whoever started this
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in ENDING:
            hear(number, interrupt)
        with until_command:
            if sys.argv[1:2] == ["run"] and not _IN_THIS_PROCESS & {*sys.argv}:
                start_early()  # it imports torch while the words are still read
            from inferload.cli.app import invoked
            from inferload.cli.terminal import prepare

            prepare()
            code = invoked()
        not_early()
    except KeyboardInterrupt:
        leave()
    sys.exit(code)
