"""Models that stay loaded, in pairs of fresh processes, called by slices in turn."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import inferload as il
from support import models
from support.model_files import written_to
from support.program import inferload, inferload_here

pytestmark = pytest.mark.multiprocess

FILES = """
import time

import torch


class Takes(torch.nn.Module):
    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def forward(self, x):
        time.sleep(self.seconds)
        return x


def quick():
    return Takes(0.002)


def slow():
    return Takes(0.004)


def raises():
    def forward(x):
        if raises.calls > 30:
            raise ValueError("enough of it")
        raises.calls += 1
        return x

    return forward


raises.calls = 0


def dies():
    import os

    def forward(x):
        if raises.calls > 30:
            os._exit(7)
        raises.calls += 1
        return x

    return forward


def inputs():
    return [torch.zeros(1)]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "m.py").write_text(FILES)
    return tmp_path


def test_two_models_are_called_by_slices_and_gates_have_exit_codes(folder: Path):
    words = ("compare", "m.py:quick", "m.py:slow", "--threads-per-call", 1, "--pairs", 6)
    done = inferload(
        *words, "--gate", "p50 +20%", "--json", "c.json", "--html", "c.html", cwd=folder
    )
    assert done.returncode == 1, done.stderr
    study = il.load_study(folder / "c.json")
    assert isinstance(study, il.Comparison)
    assert len(study.slices) == 6
    by_figure = {one.figure: one for one in study.differences}
    # 4 ms beside 2 ms, and for both what the machine takes to wake a thread
    assert by_figure["p50"].ratio > 1.3
    assert by_figure["p50"].verdict == by_figure["throughput"].verdict == "slower"
    assert [what for _, what in study.gates] == ["crossed"]
    shown = " ".join(done.stdout.split())
    assert "6 pairs of fresh processes, called in turn by" in shown
    assert "held to the same core" in shown
    assert "gate p50 +20%: crossed, beyond noise" in shown
    assert "outputs the same on 1 input" in shown
    assert inferload_here("report", "c.json", cwd=folder).stdout == done.stdout
    assert "Each slice" in (folder / "c.html").read_text()
    for pair in study.slices:
        assert len(pair.a_per_s) == len(pair.b_per_s) == len(pair.order)
        assert pair.cores
    assert [run.spec.form for run in study.runs] == ["eager", "eager"]


def test_models_of_this_program_are_handed_to_fresh_processes():
    one, other = models.mlp(), models.mlp()
    with torch.no_grad():
        other[0].bias += 1
    found = il.compare(one, other, [torch.randn(2, 8)], pairs=6, threads_per_call=1)
    assert len(found.slices) == 6
    assert found.outputs.startswith("differ on input 0, by up to")
    assert all(sum(pair.calls) > 20 for pair in found.slices)


def test_a_model_by_its_words_is_called_with_inputs_of_this_program(folder: Path, monkeypatch):
    """What the file defines cannot be pickled here, and is found there by the same words."""
    (folder / "own.py").write_text(
        "import torch\n\n\nclass Net(torch.nn.Linear):\n    pass\n\n\ndef model():\n"
        "    torch.manual_seed(0)\n    return Net(8, 8).eval()\n"
    )
    monkeypatch.chdir(folder)
    found = il.compare("own.py", "own.py:model", [torch.randn(2, 8)], pairs=6, threads_per_call=1)
    assert len(found.slices) == 6
    assert found.outputs == "the same on 1 input"


def test_a_script_that_does_not_guard_its_main_part_is_told_so(folder: Path):
    (folder / "s.py").write_text(
        "import torch\nimport inferload as il\n"
        "il.compare(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8), [torch.zeros(1, 8)])\n"
    )
    done = subprocess.run(
        [sys.executable, "s.py"], cwd=folder, capture_output=True, text=True, timeout=100,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "must do so under if __name__ == '__main__'" in done.stderr.splitlines()[-1]


def test_a_call_that_hangs_ends_the_comparison_by_its_timeout(folder: Path):
    (folder / "h.py").write_text(
        FILES + "def hangs():\n    def forward(x):\n        if raises.calls > 30:\n"
        "            time.sleep(1000)\n        raises.calls += 1\n        return x\n"
        "    return forward\n"
    )
    done = inferload(
        "compare", "m.py:quick", "h.py:hangs", "--timeout", "1s", "--threads-per-call", 1,
        cwd=folder,
    )  # fmt: skip
    assert done.returncode == 1
    assert "B, h.py:hangs: a call of " in " ".join(done.stderr.split())
    assert "had not returned" in done.stderr


@pytest.mark.parametrize(
    ("other", "code", "says"),
    [("raises", 1, "B, m.py:raises: "), ("dies", 3, "left by itself with exit code 7")],
)
def test_a_side_that_fails_ends_the_comparison_in_a_sentence(folder: Path, other, code, says):
    done = inferload("compare", "m.py:quick", f"m.py:{other}", "--threads-per-call", 1, cwd=folder)
    assert done.returncode == code
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_revisions_are_called_by_slices_each_from_its_own_tree(folder: Path):
    def git(*words: str) -> None:
        settings = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
        subprocess.run(["git", *settings, *words], cwd=folder, check=True, capture_output=True)

    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    (folder / "m.py").write_text(FILES.replace("Takes(0.002)", "Takes(0.005)"))
    done = inferload(
        "compare", "m.py:quick", "--revisions", "HEAD,.", "--threads-per-call", 1, "--pairs", 6,
        "--json", "c.json", cwd=folder,
        PYTHONPATH=os.environ.get("PYTHONPATH", ""),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    study = il.load_study(folder / "c.json")
    (p50,) = [one for one in study.differences if one.figure == "p50"]
    assert p50.ratio > 1.5


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--pairs", "5"), "pairs is 5: it must be a whole number from 6 to 1,000"),
        (("--precision", "90%"), "precision is 0.9"),
        (("--time-limit", "soon"), "duration 'soon' is not understood"),
        (("--rate", "100", "--precision", "2%"), "calls of an open loop are due"),
        (("--duration", "1s", "--time-limit", "9s"), "runs of a length of their own"),
    ],
)
def test_what_is_wrong_about_slices_is_said_in_a_sentence(tmp_path: Path, more, says):
    written_to(tmp_path)
    done = inferload_here("compare", "m.py", "m.py:sleeps", *more, cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert says in " ".join(done.stderr.split())
