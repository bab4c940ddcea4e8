"""The command line's sentences for wrong use and for models that fail."""

from __future__ import annotations

from pathlib import Path

import pytest

import inferload as il
from support.model_files import MODEL
from support.program import inferload, inferload_here


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MODEL)
    return path


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--calls", "5", "--duration", "1s"], "were both given"),
        (["--calls", "0"], "calls is 0"),
        (["--callers", "0"], "callers is 0"),
        (["--duration", "soon"], "duration 'soon' is not understood"),
        (["--json", "no/such/folder/r.json"], "the folder no/such/folder does not exist"),
        (["--json", "."], "it is a folder"),
        (["--form", "onnx"], "form 'onnx' is unknown"),
        (["--autocast", "int7"], "autocast 'int7' is unknown"),
        (["--grad", "maybe"], "grad 'maybe' is unknown"),
        (["--calls", "9" * 20], "from 1 to 4,611,686,018,427,387,904"),
        (["--batch-sizes", "1000000000"], "from 1 to 1,000,000"),
        (["--inputs", "x=1x3,x=1x5"], "has x twice"),
        (["--inputs", "no.pt"], "there is no input file no.pt"),
        (["--executor", "native"], "form 'eager'"),
        (("--rate", "0"), "rate_per_s is 0"),
        (("--rate", "fast"), "rate 'fast' is not understood: write 200, or stages as 50/10s"),
        (("--rate", "50..500"), "does not say how long it lasts: write 50..500/60s"),
        (("--rate", "50/2s", "--duration", "3s"), "longer than the stages, which last 2 s"),
        (("--rate", "50/2s", "--precision", "2%"), "is of the figures of one rate"),
        (("--limit", "p99<=20"), "limit 'p99<=20' has no unit"),
        (("--arrivals", "poisson"), "need a rate"),
        (("--arrivals", "uniform", "--rate", "5"), "'uniform' are not understood"),
        (("--arrivals", "replay:none.csv"), "none.csv cannot be read"),
        (("--precision", "much"), "'much' is not understood"),
        (("--precision", "2%", "--calls", "5"), "were both given"),
        (("--time-limit", "5s"), "goes with precision"),
        (("--precision", "2%", "--quantile", "p42"), "quantile 'p42' is unknown"),
        (("--warmup", "some"), "warmup 'some' is not understood"),
    ],
)
def test_wrong_use_ends_with_one_sentence_and_exit_code_2(model: Path, words, sentence):
    done = inferload_here("run", model, "--quiet", *words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert sentence in done.stderr


BRANCHES = """
import sys
import torch


class Branches(torch.nn.Module):
    def forward(self, x):
        print("the model's own", file=sys.stderr)
        return x * 2 if x.sum() > 0 else x


def model():
    return Branches()


def inputs():
    return [torch.ones(1, 4)]
"""


@pytest.mark.parametrize("debug", [False, True])
def test_an_export_that_fails_says_so_in_one_sentence_and_prints_no_graph(
    tmp_path: Path, monkeypatch, debug: bool
):
    path = tmp_path / "branches.py"
    path.write_text(BRANCHES)
    if debug:
        monkeypatch.setenv("INFERLOAD_DEBUG", "1")
    done = inferload_here("run", path, "--quiet", "--form", "export")
    assert done.returncode != 0
    assert "the model's own" in done.stderr
    assert "it does depends on values of its inputs" in done.stderr
    assert ("torch.ops.aten" in done.stderr) == debug
    if not debug:
        said = [line for line in done.stderr.splitlines() if line != "the model's own"]
        assert [line.partition(" ")[0] for line in said] == ["error:"]


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("none.py", "there is no model file none.py"),
        ("{model}:nothing", "defines no 'nothing'"),
        ("{folder}/junk.pt", "damaged or no archive"),
    ],
)
def test_a_model_that_cannot_be_read_is_wrong_use(model: Path, spec: str, sentence: str):
    (model.parent / "junk.pt").write_bytes(b"junk")
    done = inferload_here("run", spec.format(model=model, folder=model.parent))
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_flag_is_wrong_use(model: Path):
    done = inferload("run", model, "--colour")
    assert done.returncode == 2
    assert "--colour" in done.stderr


def test_a_result_that_cannot_be_read_is_wrong_use(tmp_path: Path):
    path = tmp_path / "r.json"
    path.write_text("{")
    done = inferload_here("report", path)
    assert done.returncode == 2
    assert "truncated" in done.stderr


def test_a_model_that_raises_ends_with_its_words_its_place_and_exit_code_1(
    model: Path, tmp_path: Path
):
    path = tmp_path / "r.json"
    bad = tmp_path / "inputs.pt"
    import torch

    torch.save([torch.ones(1)] * 20 + [-torch.ones(1)], bad)
    words = ["run", model, "--inputs", bad, "--warmup", 0, "--json", path]
    done = inferload(*words)
    assert done.returncode == 1
    assert "ValueError: negative input" in done.stderr
    assert "mine.py:6" in done.stderr
    assert "on input 20" in done.stderr
    assert "Traceback" not in done.stderr
    assert il.load_result(path).status == "failed"
    recorded = inferload_here(*words, "--on-error", "record", "--calls", 42)
    assert recorded.returncode == 1
    assert il.load_result(path).summary.failed_calls == 2


def test_a_model_that_fails_before_a_call_is_measured_is_told_in_one_sentence(tmp_path: Path):
    path = tmp_path / "saliency.py"
    path.write_text(
        "import torch\n"
        "class M(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        x = x.detach().requires_grad_(True)\n"
        "        return torch.autograd.grad(x.sum(), x)[0]\n"
        "def model(): return M()\n"
        "def inputs(): return [torch.ones(2, 4)]\n"
    )
    failed = inferload_here("run", path, "--calls", 5)
    assert (failed.returncode, failed.stdout) == (1, "")
    said = " ".join(failed.stderr.split())
    assert "is called with --grad on" in said
    assert said.endswith(f"({path}:5)")
    assert inferload_here("run", path, "--calls", 5, "--grad", "on").returncode == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("explain", "--rate", "50"), "--rate is no flag of inferload explain, which explains"),
        (("explain", "--processes", "2"), "one after another: run, search, compare have it"),
        (("sweep", "--rate", "50"), "run, compare have it, or is it --rates"),
    ],
)
def test_a_flag_of_other_verbs_is_named_with_those_that_have_it(model: Path, words, sentence):
    verb, *flags = words
    done = inferload_here(verb, model, *flags)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_flag_of_nobody_is_said_with_the_usage(model: Path):
    done = inferload_here("run", model, "--nobody")
    assert done.returncode == 2
    assert "No such option: --nobody" in done.stderr
