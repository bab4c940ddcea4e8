"""What the project says of itself in several files is the same in all of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import inferload

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
MINOR = re.compile(r"Programming Language :: Python :: (3\.\d+)")


def test_the_workflow_tests_every_version_of_python_that_is_declared():
    declared = [found[1] for one in PROJECT["classifiers"] if (found := MINOR.fullmatch(one))]
    assert PROJECT["requires-python"] == f">={declared[0]}"
    assert WORKFLOW["jobs"]["tests"]["strategy"]["matrix"]["python"] == declared
    lowest = WORKFLOW["jobs"]["lowest"]["steps"]
    assert {one["with"]["python-version"] for one in lowest if "with" in one} == {declared[0]}


def test_the_workflow_makes_only_what_can_be_made():
    made = re.findall(r"\bmake ([a-z- ]+)", "\n".join(_runs()))
    assert made
    for words in made:
        subprocess.run(["make", "-n", "-C", ROOT, *words.split()], check=True, capture_output=True)


def _runs() -> list[str]:
    return [step.get("run", "") for job in WORKFLOW["jobs"].values() for step in job["steps"]]


def test_the_latest_release_is_this_version_everywhere():
    heading = re.search(
        r"^## \[(\d.*)\] - (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert heading[1] == citation["version"] == inferload.__version__
    assert heading[2] == citation["date-released"]


def test_help_has_a_line_for_all_that_can_be_made():
    told = subprocess.run(["make", "-C", ROOT, "help"], check=True, capture_output=True, text=True)
    rules = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"^make ([a-z-]+) +\S", told.stdout, re.MULTILINE)) == set(rules)


@pytest.mark.parametrize("tool", ["ruff", "mypy", "pyright", "pre-commit"])
def test_a_tool_has_one_pin(tool: str):
    dev = PROJECT["optional-dependencies"]["dev"]
    assert len([one for one in dev if re.match(rf"{tool}(\[\w+\])?==", one)]) == 1
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [one["repo"] for one in hooks["repos"]] == ["local"]
