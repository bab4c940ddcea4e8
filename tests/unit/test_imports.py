"""What is imported only when it is needed: told by ``sys.modules``, never by the clock."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from importlib import import_module

import pytest

from inferload.cli.app import VERBS

HEAVY = {"torch", "numpy", "scipy", "plotly", "pyarrow"}
LISTED = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
"""


def imported_by(code: str) -> set[str]:
    """The modules that there are at the end of a program of its own."""
    done = subprocess.run(
        [sys.executable, "-c", LISTED + code], check=True, capture_output=True, text=True
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


def imported_by_help(*words: str) -> set[str]:
    return imported_by(
        f"sys.argv = ['inferload', *{words!r}, '--help']\n"
        "from inferload.cli.main import main\n"
        "main()"
    )


def verbs_in(modules: set[str]) -> set[str]:
    return {verb for verb, (home, _) in VERBS.items() if home in modules}


def test_the_package_alone_imports_none_of_its_own_modules_and_no_other_package():
    found = imported_by("import inferload") - imported_by("")
    assert not found & {*HEAVY, "pydantic", "typer", "rich", "psutil"}
    assert {one for one in found if one.startswith("inferload.")} <= {"inferload.version"}


def test_help_imports_no_verb_and_nothing_heavy():
    found = imported_by_help()
    assert "typer" in found
    assert not found & {*HEAVY, "pydantic", "psutil"}
    assert verbs_in(found) == set()


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_imports_that_verb_alone(verb: str):
    found = imported_by_help(verb)  # typer itself checks a verb's flags by pydantic
    assert not found & HEAVY
    assert verbs_in(found) == {verb}


@pytest.mark.parametrize("verb", VERBS)
def test_the_line_of_a_verb_is_the_first_of_its_own_help(verb: str):
    home, line = VERBS[verb]
    own = inspect.getdoc(getattr(import_module(home), f"{verb}_command"))
    assert " ".join(own.split("\n\n", maxsplit=1)[0].split()) == line
