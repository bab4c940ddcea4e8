"""The best configuration of real models, and code and command that set it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import inferload as il
from inferload.plan.cores import memory_nodes
from support import models
from support.model_files import written_to
from support.program import inferload, inferload_here, run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written_to(tmp_path)


@pytest.mark.multiprocess
def test_the_command_line_tunes_and_its_code_sets_what_it_found(folder: Path):
    done = inferload(
        "tune", "m.py", "--forms", "eager,script", "--duration", "1s", "--cores", 2, "--limit",
        "errors<=1%", "--json", "t.json", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = il.load_study(folder / "t.json")
    assert len(found.candidates) == 8 - (memory_nodes() == 1)
    assert {one.run.settings for one in found.trials} == {found.default, *found.candidates}
    best = found.latest(found.best).run.spec
    assert inferload_here("report", "t.json", cwd=folder).stdout == done.stdout
    (folder / "snippet.py").write_text(
        found.code.replace("duration_s=10", "calls=40").replace(
            "print(result)", "result.save('code.json')"
        )
    )
    assert run([sys.executable, "snippet.py"], cwd=folder).returncode == 0
    words = found.command.split()[1:-2]
    again = inferload_here(*words, "--calls", 40, "--json", "command.json", cwd=folder)
    assert again.returncode == 0, again.stderr
    for name in ("code.json", "command.json"):
        spec = il.load_result(folder / name).spec
        for one in ("callers", "threads_per_call", "form", "grad_mode", "executor", "inputs"):
            assert getattr(spec, one) == getattr(best, one), one


def test_tuning_in_this_process_keeps_limits():
    found = il.tune(
        models.mlp(),
        [torch.randn(2, 8)],
        limit="p50<=10s",
        callers=(1, 2),
        threads_per_call=1,
        processes=1,
        forms=(None, "script"),
        cores=2,
        duration_s=1.0,
    )
    assert found.best in {found.default, *found.candidates}
    assert (found.margin is None) == (found.best == found.default)
    assert "il.run(" in found.code
    assert found.command == ""
