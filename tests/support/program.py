"""The program as tests start it: a process of its own, or its ``main`` in this one.

A process of its own shows how the program ends, what it imports and what signals do to it. Where
only its words and its exit code are looked at, two thirds of the time would go into starting it.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess
from typing import TYPE_CHECKING
from unittest import mock

from inferload import signals
from inferload.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator

# As wide as where there is no terminal, whatever the tests are run in.
_WIDTH = {"COLUMNS": "80"}
PROGRAM = (sys.executable, "-m", "inferload")
IMPATIENT = str(Path(__file__).with_name("impatient.py"))


def inferload(
    *words: object, cwd: Path | None = None, timeout_s: float = 300, **variables: str
) -> CompletedProcess[str]:
    """Run ``inferload`` with these words in a process of its own."""
    return subprocess.run(
        [*PROGRAM, *(os.fsencode(str(word)) for word in words)],
        cwd=cwd,
        env=os.environ | _WIDTH | variables,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def inferload_here(
    *words: object, cwd: Path | None = None, **variables: str
) -> CompletedProcess[str]:
    """Run ``inferload`` with these words in this process; processes that it starts are real."""
    given = ["inferload", *map(str, words)]
    stdout, stderr = _Text(), _Text()
    with (
        _working_in(cwd),
        mock.patch.dict(os.environ, _WIDTH | variables),
        mock.patch.object(sys, "argv", given),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        code: object = None
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        finally:
            for number in signals.ENDING:  # a program that has ended hears none any more
                signals.unhear(number)
    return CompletedProcess(given, code, stdout.text, stderr.text)


class _Text(io.TextIOWrapper):
    """A stream that keeps what is written to it."""

    def __init__(self) -> None:
        self._bytes = io.BytesIO()
        super().__init__(self._bytes, encoding="utf-8", write_through=True)

    @property
    def text(self) -> str:
        self.flush()
        return self._bytes.getvalue().decode()


@contextlib.contextmanager
def _working_in(folder: Path | None) -> Iterator[None]:
    before = os.getcwd()  # noqa: PTH109 - a string, as chdir takes it
    os.chdir(folder or before)
    try:
        yield
    finally:
        os.chdir(before)
