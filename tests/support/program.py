"""The program as tests start it: a process of its own, or its ``main`` in this one.

A process of its own shows how the program ends, what it imports and what signals do to it. Where
only its words and its exit code are looked at, two thirds of the time would go into starting it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from subprocess import CompletedProcess
from typing import IO, TYPE_CHECKING
from unittest import mock

from inferload import signals
from inferload.cli.main import main
from support.forks import Forked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# As wide as where there is no terminal, whatever the tests are run in.
_WIDTH = {"COLUMNS": "80"}
PROGRAM = (sys.executable, "-m", "inferload")
IMPATIENT = str(Path(__file__).with_name("impatient.py"))


def inferload(
    *words: object, cwd: Path | None = None, timeout_s: float = 300, **variables: str
) -> CompletedProcess[str]:
    """Run ``inferload`` with these words in a process of its own."""
    return run(
        [*PROGRAM, *(os.fsencode(str(word)) for word in words)],
        cwd=cwd,
        env=os.environ | _WIDTH | variables,
        timeout_s=timeout_s,
    )


def run(
    words: Sequence[str | bytes],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout_s: float = 300,
) -> CompletedProcess[str]:
    """Run a program of Python in a process of its own, forked where it can be."""
    with Forked(
        words, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            shown, said = process.communicate(timeout=timeout_s)
        except BaseException:
            process.kill()
            raise
    return CompletedProcess(words, process.returncode, shown, said)


def inferload_here(
    *words: object, cwd: Path | None = None, **variables: str
) -> CompletedProcess[str]:
    """Run ``inferload`` with these words in this process.

    What processes write that it starts is kept as well.
    """
    given = ["inferload", *map(str, words)]
    code: object = None
    with (
        tempfile.TemporaryFile() as shown,
        tempfile.TemporaryFile() as said,
        working_in(cwd),
        mock.patch.dict(os.environ, _WIDTH | variables),
        mock.patch.object(sys, "argv", given),
    ):
        with _written_to("stdout", shown), _written_to("stderr", said):
            try:
                main()
            except SystemExit as ended:
                code = ended.code
            finally:
                for number in signals.ENDING:  # a program that has ended hears none any more
                    signals.unhear(number)
        return CompletedProcess(given, code, _text(shown), _text(said))


@contextlib.contextmanager
def _written_to(name: str, file: IO[bytes]) -> Iterator[None]:
    """Have what is written to a standard stream go to a file, also by other processes."""
    number = {"stdout": 1, "stderr": 2}[name]
    getattr(sys, name).flush()
    before = os.dup(number)
    os.dup2(file.fileno(), number)
    try:
        with (
            open(number, "w", encoding="utf-8", buffering=1, closefd=False) as stream,
            mock.patch.object(sys, name, stream),
        ):
            yield
    finally:
        os.dup2(before, number)
        os.close(before)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


@contextlib.contextmanager
def working_in(folder: Path | None) -> Iterator[None]:
    """Have this process work in a folder for a while."""
    before = os.getcwd()  # noqa: PTH109 - a string, as chdir takes it
    os.chdir(folder or before)
    try:
        yield
    finally:
        os.chdir(before)
