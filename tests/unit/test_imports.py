"""What is imported only when it is needed: told by ``sys.modules``, never by the clock."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

from inferload.cli.app import VERBS

if TYPE_CHECKING:
    from pathlib import Path

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


@pytest.mark.multiprocess
@pytest.mark.parametrize("verb", ["run", "sweep"])
def test_who_waits_for_a_model_in_another_process_imports_no_torch(verb: str, tmp_path: Path):
    model = tmp_path / "m.py"
    model.write_text(
        "import torch\nmodel = torch.nn.Identity()\ninputs = lambda: [torch.ones(1)]\n"
    )
    more = ["--blocks", "1", "--callers", "1,2"] if verb == "sweep" else ["--isolate"]
    words = ["inferload", verb, str(model), "--calls", "10", *more]
    found = imported_by(f"sys.argv = {words!r}\nfrom inferload.cli.main import main\nmain()")
    assert "numpy" in found
    assert "torch" not in found


@pytest.mark.parametrize("verb", VERBS)
def test_the_line_of_a_verb_is_the_first_of_its_own_help(verb: str):
    home, line = VERBS[verb]
    own = inspect.getdoc(getattr(import_module(home), f"{verb}_command"))
    assert " ".join(own.split("\n\n", maxsplit=1)[0].split()) == line
