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
    _why: str = field(default="", init=False)

    def __call__(self, serve: Callable[[object, object], None], scratch: Path) -> str:
        """Run the test, which calls ``serve`` with its model and inputs; why it did not, in words.

        What pytest and the test print goes to a file: the terminal is another session's. So do
        what pytest keeps, and the test's own temporary files.
        """
        self._serve = serve
        with (scratch / "pytest.txt").open("wb") as file:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
        try:
            code = pytest.main([*self.words, *self._apart(scratch), self.test], plugins=[self])
        except Exception as error:  # noqa: BLE001 - whatever a plugin or a conftest raises
            return f"pytest itself failed there: {type(error).__name__}: {error}"
        if self._served:
            return ""
        if self._why:
            return self._why
        if code == pytest.ExitCode.USAGE_ERROR:
            return "there is no such test"
        return "the test makes no such run there"

    def _apart(self, scratch: Path) -> list[str]:
        """Words that keep what the session keeps from being written over."""
        found = [
            f"--basetemp={scratch / 'pytest'}",
            # this package was imported before pytest was
            "-W",
            "ignore::pytest.PytestAssertRewriteWarning",
        ]
        if "no:cacheprovider" not in self.words:
            found += ["-o", f"cache_dir={scratch / 'cache'}"]
        if any(one.startswith("--junit") for one in self.words):
            found.append("--junit-xml=")
        return found

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

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Remember why a file could not be read."""
        if report.failed and not self._why:
            self._why = f"the test cannot be collected there: {_gist(report.longreprtext)}"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember why the test did not come to its model."""
        if report.failed and not self._why:
            self._why = (
                f"the test fails there before it comes to its run: {_gist(report.longreprtext)}"
            )
        elif report.skipped and not self._why:
            self._why = f"the test is skipped there: {_gist(report.longreprtext)}"


def _gist(text: str) -> str:
    """The line of a traceback that says what was wrong."""
    lines = [one.strip() for one in text.splitlines() if one.strip()]
    marked = [one.removeprefix("E").strip() for one in lines if one.startswith("E  ")]
    return (marked or lines or [""])[-1 if not marked else 0]
