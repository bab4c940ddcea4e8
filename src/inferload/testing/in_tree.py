"""A test of another tree, run in this process until its model can be called from outside."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: A run of the test before the one that is asked for: it has a result, and that is all.
SHORT_RUN_S = 0.1
_OUTPUT = "pytest.txt"


@dataclass(slots=True, eq=False)
class InTree:
    """Has pytest run one test, and serves the model that it gives to ``inferload_bench``.

    ``key``: the name of that run. ``words``: what pytest is called with beside the test.
    """

    test: str
    key: str
    words: tuple[str, ...]
    _serve: Callable[[object, object], None] | None = field(default=None, init=False)
    _served: bool = field(default=False, init=False)

    def __call__(self, serve: Callable[[object, object], None], scratch: Path) -> str:
        """Run the test, which calls ``serve`` with its model and inputs; why it did not, in words.

        What pytest and the test print goes to a file: the terminal is another session's.
        """
        self._serve = serve
        path = scratch / _OUTPUT
        with path.open("wb") as file:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
        code = pytest.main([*self.words, self.test], plugins=[self])
        if self._served:
            return ""
        if code in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED):
            why = f"there is no test {self.test}"
        elif code == pytest.ExitCode.OK:
            why = f"{self.test} passed, and made no run {self.key}"
        else:
            why = f"{self.test} failed before it came to inferload_bench"
        lines = [one for one in path.read_text(errors="replace").splitlines() if one.strip()]
        told = [one for one in lines if one.startswith(("E  ", "ERROR"))] or lines
        return f"{why}: {told[-1].strip(' =')}" if told else why

    def serve(self, model: object, inputs: object) -> None:
        """Have the model called from outside until nobody asks any more; then pytest ends.

        Raises:
            pytest.exit.Exception: always.
        """
        if self._serve is None:
            raise AssertionError("pytest was started by this object")
        self._served = True
        self._serve(model, inputs)
        pytest.exit("its model was called from outside")
