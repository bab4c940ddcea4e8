"""Files and modules that a spec names: how they are imported, and what is said where none is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import inferload as il
from inferload.targets.as_target import model_from_spec

RELATIVE = """
import torch
from ..pieces import Piece
from . import numbers
def model():
    return Piece(numbers.WIDTH, 2)
def inputs():
    return [torch.ones(1, numbers.WIDTH)]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a package in it, and Python as it was when the test is over."""
    inner = tmp_path / "dotted_package" / "inner"
    inner.mkdir(parents=True)
    (inner / "net.py").write_text(RELATIVE)
    (inner / "numbers.py").write_text("WIDTH = 3\n")
    (inner.parent / "pieces.py").write_text("from torch.nn import Linear as Piece\n")
    monkeypatch.setattr(sys, "path", sys.path.copy())
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("with_init", [True, False])
def test_a_file_that_imports_its_neighbours_by_dots_is_of_its_package(folder: Path, with_init):
    inner = folder / "dotted_package" / "inner"
    if with_init:
        (inner / "__init__.py").touch()
        (inner.parent / "__init__.py").touch()
    for spec in ("dotted_package/inner/net.py", f"{inner / 'net.py'}:model"):
        model, inputs = model_from_spec(spec)
        assert isinstance(model, torch.nn.Linear)
        assert [one.args[0].shape for one in inputs] == [(1, 3)]
    assert sys.modules["dotted_package.inner.net"].inputs


def test_it_may_be_in_a_folder_that_is_no_name_and_import_others_as_scripts_do(folder: Path):
    own = folder / "my-model"
    own.mkdir()
    (own / "beside.py").write_text("from torch.nn import Identity\n")
    (own / "kinds.py").write_text("Kind = int\n")
    (own / "this.py").write_text("raise ValueError('not the one of Python')\n")
    (own / "net.py").write_text(
        "import beside, this\nfrom .kinds import Kind\ndef model():\n    return beside.Identity()\n"
    )
    assert isinstance(model_from_spec("my-model/net.py")[0], torch.nn.Identity)


def test_a_file_that_cannot_be_looked_into_is_told_when_it_is_run(folder: Path, monkeypatch):
    def closed(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    (folder / "closed.py").write_text("raise ValueError('as it is run')\n")
    monkeypatch.setattr(Path, "read_bytes", closed)
    with pytest.raises(il.PlanError, match=r"closed.py failed: ValueError: as it is run"):
        model_from_spec("closed.py")


def test_another_package_of_that_name_is_not_taken_for_it(folder: Path):
    (folder / "json").mkdir()
    (folder / "json" / "net.py").write_text("from .numbers import WIDTH\n")
    with pytest.raises(il.PlanError, match=r"another json is found first \(.*\): rename one"):
        model_from_spec("json/net.py")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("of_init", "of a module, name what the model is in it, as of_init:model"),
        ("of_init.inner", "name what the model is in it, as of_init.inner:model"),
        (
            "dotted_package/inner",
            "is a folder: name a file in it, as dotted_package/inner/model.py:m",
        ),
        ("dotted_package", "is a folder: name a file"),
        ("nothing.here", "there is no model file nothing.here$"),
        ("nothing", "there is no model file nothing$"),
        ("__main__", "there is no model file __main__"),
    ],
)
def test_what_is_no_file_is_told_by_what_it_is(folder: Path, words: str, says: str):
    (folder / "of_init").mkdir()
    (folder / "of_init" / "__init__.py").touch()
    with pytest.raises(il.PlanError, match=says):
        model_from_spec(words)
