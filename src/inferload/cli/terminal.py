"""What the command line draws on: streams that take what they can, and never end a run.

A terminal that is no UTF-8 gets signs that stand for those it has not; a pipe that nobody reads, a
full device and a stream that is closed swallow what comes.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from typing import IO, cast

from inferload.report.signs import PLAIN, SafeConsole


def prepare() -> None:
    """Make what is written to the standard streams arrive, as well as it can.

    A stream that was closed is opened on nothing: the first file or pipe to be opened would get its
    number, and whatever the model prints.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:  # the lowest number that is free
        pass
    os.close(number)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=PLAIN)


class Stream:
    """``sys.stdout`` or ``sys.stderr``, whichever object that is now; writing to it never fails."""

    def __init__(self, name: str) -> None:
        self._name = name
        #: What kept the last text from being written, if anything did.
        self.trouble: OSError | None = None

    @property
    def encoding(self) -> str:
        """That of the stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    @property
    def _stream(self) -> IO[str] | None:
        stream: IO[str] | None = getattr(sys, self._name)
        own: IO[str] | None = getattr(stream, "rich_proxied_file", stream)  # below a live line
        return own

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        with suppress(AttributeError, ValueError):
            return bool(self._stream is not None and self._stream.isatty())
        return False

    def fileno(self) -> int:
        """Its number for the system."""
        if self._stream is None:
            raise OSError(errno.EBADF, "the stream is closed")
        return self._stream.fileno()

    def write(self, text: str) -> int:
        """Write what can be written."""
        stream = self._stream
        if stream is not None and self.trouble is None:
            try:
                try:
                    stream.write(text)
                except UnicodeEncodeError:  # of a stream that could not be reconfigured
                    stream.write(text.encode("ascii", PLAIN).decode())
            except (OSError, ValueError) as error:
                self._fail(error)
        return len(text)

    def flush(self) -> None:
        """Hand on what was written."""
        if self._stream is not None and self.trouble is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.trouble = error if isinstance(error, OSError) else OSError(errno.EBADF, str(error))
        with suppress(OSError, ValueError):  # what is left in it has to go somewhere at the end
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)


stdout, stderr = Stream("stdout"), Stream("stderr")


def console() -> SafeConsole:
    """What reports are drawn on."""
    return SafeConsole(file=cast("IO[str]", stdout), highlight=False, markup=False)


def wide_console() -> SafeConsole:
    """The same, at least 80 columns wide: a narrower terminal wraps lines, and cuts no cells."""
    found = console()
    found.width = max(found.width, 80)
    return found


#: What is said beside reports: how far a run has come, and what went wrong.
errors = SafeConsole(file=cast("IO[str]", stderr), highlight=False, markup=False)


def trouble() -> str | None:
    """What kept a report from being shown; nothing did where somebody stopped reading it."""
    found = stdout.trouble
    if found is None or isinstance(found, BrokenPipeError):
        return None
    return found.strerror or str(found)
