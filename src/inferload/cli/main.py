"""Where the command line begins."""

from __future__ import annotations

import sys
from typing import NoReturn

from inferload.cli.interrupts import interrupt, leave, until_command
from inferload.signals import ENDING, hear


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 1 a call failed, 2 wrong use, 130 interrupted."""
    try:
        for number in ENDING:
            hear(number, interrupt)
        with until_command:
            from inferload.cli.app import invoked
            from inferload.cli.terminal import prepare

            prepare()
            code = invoked()
    except KeyboardInterrupt:
        leave()
    sys.exit(code)
