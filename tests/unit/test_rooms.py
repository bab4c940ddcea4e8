"""The house is as docs/architecture.md tells it, and no part of it has grown past being read."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import inferload

ROOT = Path(__file__).parents[2]
HOUSE = Path(inferload.__file__).parent
FOLDERS = sorted(
    {one.parent for one in HOUSE.rglob("*.py") if "__pycache__" not in one.parts} - {HOUSE}
)
ROWS = re.findall(
    r"^\| `(\w+)/` \| .+? \|(.*)\|$", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE
)


def test_the_table_of_rooms_names_each_room_there_is():
    assert {room for room, _ in ROWS} == {one.name for one in FOLDERS if one.parent == HOUSE}


def test_and_each_sub_room():
    for room, told in ROWS:
        there = {one.name for one in FOLDERS if one.parent == HOUSE / room}
        assert set(re.findall(r"`(\w+)/`", told)) == there, room


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda one: str(one.relative_to(HOUSE)))
def test_a_room_says_what_it_is_and_what_to_read_first(folder: Path):
    text = (folder / "__init__.py").read_text()
    assert len(ast.parse(text).body) == 1
    first = re.search(r"Read ``([\w.]+)`` first", text)
    assert first is not None
    named = folder.joinpath(*first[1].split("."))
    assert named.with_suffix(".py").is_file() or named.suffix == ".cpp", first[1]


@pytest.mark.parametrize("folder", [HOUSE, *FOLDERS], ids=lambda one: one.name)
def test_a_folder_has_few_files(folder: Path):
    files = [one for one in folder.iterdir() if one.suffix in {".py", ".cpp", ".h"}]
    # a header is one role in the one unit that they are compiled as
    assert len([one for one in files if one.suffix != ".h"]) <= 14


@pytest.mark.parametrize("folder", ["src", "tests", "benchmarks", "examples"])
def test_no_file_is_long(folder: str):
    files = [one for one in (ROOT / folder).rglob("*") if one.suffix in {".py", ".cpp", ".h"}]
    assert files
    assert not [one.name for one in files if len(one.read_text().splitlines()) > 350]
