"""Which part of a model's name is a file, and which a name in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import inferload as il
from inferload.cli.request.asked import Asked
from inferload.cli.request.run_file import read_run_file
from inferload.plan.arrivals.load_words import load_from_text
from inferload.plan.model import spec_parts
from inferload.studies.tune.candidates import forms_of
from inferload.targets.as_target import is_spec

PY_FILE = """
import torch
def net():
    return torch.nn.Identity()
model = net()
def inputs():
    return [torch.ones(1)]
"""


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("model.py", ("model.py", None)),
        ("a:b/model.py", ("a:b/model.py", None)),
        ("a:b/model.py:net", ("a:b/model.py", "net")),
        ("a:b.pt2", ("a:b.pt2", None)),
        ("a:b/net", ("a:b/net", None)),
        ("package.module:net", ("package.module", "net")),
        ("model", ("model", None)),
    ],
)
def test_a_name_follows_the_last_colon_unless_what_follows_is_a_file(spec, parts):
    assert spec_parts(spec) == parts
    assert is_spec(spec) == (parts[1] is not None or parts[0].endswith(".py"))


def test_what_is_there_is_a_file_whatever_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert spec_parts("run:1") == ("run", "1")
    Path("run:1").touch()
    assert spec_parts("run:1") == ("run:1", None)


def test_files_in_folders_with_colons_are_models_inputs_and_arrivals(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("a:b")
    folder.mkdir()
    (folder / "mine.py").write_text(PY_FILE)
    for spec in ("a:b/mine.py", "a:b/mine.py:net"):
        assert il.run(spec, calls=3).summary.completed_calls == 3
        assert Asked(model=spec).files() == [folder / "mine.py"]
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), "c:d.pt")
    assert il.run("c:d.pt", [torch.ones(1)], calls=3).summary.completed_calls == 3
    assert forms_of("c:d.pt", on_device=False) == (None,)
    times = "0.001\n0.002\n"
    Path("times:2x").write_text(times)
    assert load_from_text("replay:times:2x", None, 1, 0).times_s == pytest.approx([0.0, 0.001])
    Path("times").write_text(times)
    Path("times:2x").unlink()
    assert load_from_text("replay:times:2x", None, 1, 0).times_s == pytest.approx([0.0, 0.0005])


def test_a_run_file_finds_them_beside_itself(tmp_path):
    (tmp_path / "x:y").mkdir()
    (tmp_path / "run.toml").write_text(
        'model = "x:y/mine.py:net"\ninputs = ["x:y/in.safetensors", "1x8:float32"]\n'
    )
    found = read_run_file(tmp_path / "run.toml")
    assert found.model == f"{tmp_path / 'x:y/mine.py'}:net"
    assert found.options()["inputs"] == [str(tmp_path / "x:y/in.safetensors"), "1x8:float32"]
