"""Stages and limits on the command line: exit codes, what is saved, and run files."""

from __future__ import annotations

from pathlib import Path

import pytest

import inferload as il
from support.program import inferload_here

FILE = """
import torch
class Model(torch.nn.Module):
    def forward(self, x):
        return x * 2
def model():
    return Model()
def inputs():
    return [torch.ones(1, 2)]
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(FILE)
    return tmp_path / "mine.py"


def test_a_broken_limit_ends_the_run_with_exit_code_1_and_its_result_is_saved(model: Path):
    saved = model.with_name("r.json")
    words = ["--rate", "600/10s,600..900/50s", "--limit", "p50<=10us", "--limit", "errors<=10%"]
    done = inferload_here("run", model, *words, "--quiet", "--json", saved)
    assert done.returncode == 1
    assert done.stderr == "error: the limit p50<=0.01ms is broken\n"
    result = il.load_result(saved)
    broken, errors = result.limits
    assert (broken.verdict, broken.stage, errors.verdict) == ("broken", 1, "kept")
    assert result.summary.completed_calls < 6000
    assert "this ended the run after" in " ".join(done.stdout.split())
    assert "1 more stage did not begin" in done.stdout


def test_limits_of_a_run_file_are_of_runs_and_those_that_are_kept_change_nothing(model: Path):
    path, saved = model.with_name("run.toml"), model.with_name("r.json")
    path.write_text(
        'model = "mine.py"\ncalls = 600\nlimit = ["p50<=5s", "errors<=5%"]\nquiet = true\n'
        f'json = "{saved}"\n'
    )
    done = inferload_here("run", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [one.verdict for one in il.load_result(saved).limits] == ["kept", "kept"]
    path.write_text('model = "mine.py"\nlimit = "p50<=1ns"\n')
    swept = inferload_here(
        "sweep", path, "--callers", "1,2", "--blocks", "1", "--duration", "0.1s", "--quiet"
    )
    assert swept.returncode == 0, swept.stderr
