"""What asks the command line to end where no run hears it: before a command, and after a run."""

from __future__ import annotations

from inferload.signals import PutOff

#: Entered when the command line starts, and ended when a command does: typer would exit without a
#: word.
until_command = PutOff()


class _Kept:
    """What there is of a run when the command line is interrupted."""

    text = "there is no result"


kept = _Kept()
