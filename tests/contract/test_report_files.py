"""Reports and exports of the command line: what is written, and what is never written over."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import inferload as il
from inferload.cli.request.made_by import made_by
from support.program import inferload, inferload_here

MODEL = """
import torch
def model():
    torch.manual_seed(0)
    return torch.nn.Linear(4, 2).eval()
def inputs():
    return [torch.ones(1, 4), torch.zeros(1, 4)]
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, a run of it with its reports, and a second one."""
    folder = tmp_path_factory.mktemp("saved")
    (folder / "m.py").write_text(MODEL)
    words = ("--callers", 2, "--calls", 400, "--quiet")
    done = inferload(
        "run", "m.py", *words, "--json", "a.json", "--html", "a.html", "--markdown", "a.md",
        cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert inferload_here("run", "m.py", *words, "--json", "b.json", cwd=folder).returncode == 0
    return folder


def test_a_run_writes_its_reports_and_what_made_it(saved: Path):
    result = il.load_result(saved / "a.json")
    assert result.made_by == "inferload run m.py --callers 2 --calls 400"
    assert result.made_by in (saved / "a.html").read_text()
    assert "### Linear (eager)" in (saved / "a.md").read_text()
    assert result.processes[0].cpu.times_s


def test_the_same_reports_are_drawn_again_from_the_file(saved: Path, tmp_path: Path):
    done = inferload_here(
        "report", "a.json", "--html", tmp_path / "r.html", "--markdown", tmp_path / "r.md",
        cwd=saved,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r.md").read_text() == (saved / "a.md").read_text()
    assert (tmp_path / "r.html").read_text() == (saved / "a.html").read_text()


def test_runs_side_by_side_are_drawn_and_a_study_stands_alone(saved: Path, tmp_path: Path):
    done = inferload_here("report", "a.json", "b.json", "--html", tmp_path / "r.html", cwd=saved)
    assert done.returncode == 0, done.stderr
    assert "Linear (eager), 2x #2" in done.stdout
    golden = Path(__file__).parents[1] / "golden" / "sweep_v1.json"
    done = inferload_here("report", "a.json", golden, cwd=saved)
    assert done.returncode == 2
    assert "is drawn alone" in " ".join(done.stderr.split())


def test_the_command_that_is_told_makes_the_same_run(saved: Path, tmp_path: Path):
    shutil.copy(saved / "m.py", tmp_path)
    words = (
        "run", "m.py", "--rate", 300, "--arrivals", "gamma:0.25", "--callers", 2, "--processes", 2,
        "--calls", 60, "--warmup", 3, "--form", "script", "--seed", 4, "--on-error", "record",
        "--autocast", "bfloat16", "--threads-per-call", 1, "--timeout", "9s", "--batch-sizes", "2",
    )  # fmt: skip
    specs = []
    for number in range(2):
        done = inferload_here(*words, "--json", f"{number}.json", "--quiet", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        result = il.load_result(tmp_path / f"{number}-batch2.json")
        specs.append(result.spec)
        words = shlex.split(result.made_by)[1:]
    assert specs[0] == specs[1]
    assert (specs[0].asked_form, specs[0].batch_size) == ("script", 2)
    assert (specs[0].arrivals, specs[0].burstiness, specs[0].load_seed) == ("gamma", 0.25, 4)


def test_every_batch_size_has_reports_of_its_own(saved: Path, tmp_path: Path):
    shutil.copy(saved / "m.py", tmp_path)
    done = inferload_here(
        "run", "m.py", "--batch-sizes", "1,2", "--calls", 50, "--html", "r.html", "--markdown",
        "r.md", "--json", "r.json", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for size in (1, 2):
        assert (tmp_path / f"r-batch{size}.html").stat().st_size > 1_000_000
        assert (tmp_path / f"r-batch{size}.md").exists()
        made = il.load_result(tmp_path / f"r-batch{size}.json").made_by
        assert made == f"inferload run m.py --batch-sizes {size} --calls 50"


@pytest.mark.parametrize(
    "words",
    [
        ("report", "a.json", "--html", "a.calls"),
        ("report", "a.json", "--markdown", "a.json"),
        ("report", "a.json", "--html", "x", "--markdown", "x"),
        ("compare", "a.json", "b.json", "--html", "b.json"),
        ("compare", "a.json", "b.json", "--json", "o.json", "--html", "o.json"),
        ("run", "m.py", "--html", "m.py"),
        ("run", "m.py", "--json", "r.json", "--html", "r.json"),
        ("run", "m.py", "--json", "r.json", "--markdown", "r.calls"),
        ("run", "m.py:model", "--trace", "m.py"),
        ("sweep", "m.py", "--callers", "1,2", "--markdown", "m.py"),
        ("export", "a.json", "a.json"),
    ],
    ids=" ".join,
)
def test_nothing_is_written_over_what_is_read_or_written(saved: Path, tmp_path: Path, words):
    for path in saved.iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    done = inferload_here(*words, cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_report_that_cannot_be_written_keeps_the_result_and_says_so(saved: Path, tmp_path: Path):
    name = "x" * 250 + ".html"  # as long as a name may be, and no temporary name may be longer
    done = inferload_here("report", "a.json", "--html", tmp_path / name, cwd=saved)
    assert done.returncode == 0, done.stderr
    done = inferload_here("report", "a.json", "--html", tmp_path / ("x" * 300), cwd=saved)
    assert done.returncode == 2
    assert "File name too long" in " ".join(done.stderr.split())


def test_a_name_that_is_no_text_keeps_no_result_from_being_saved(tmp_path: Path):
    path = os.fsencode(tmp_path) + b"/mod\xff.py"
    Path(os.fsdecode(path)).write_text(MODEL)
    done = inferload(
        "run", os.fsdecode(b"mod\xff.py"), "--calls", 20, "--json", "r.json", "--html", "r.html",
        "--markdown", "r.md", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert il.load_result(tmp_path / "r.json").summary.completed_calls == 20
    assert (tmp_path / "r.html").exists()
    assert (tmp_path / "r.md").exists()


def test_exports_of_the_command_line(saved: Path, tmp_path: Path):
    names = ("c.csv", "c.parquet", "c.hgrm", "c.prom", "c.pftrace")
    done = inferload_here("export", "a.json", *(tmp_path / name for name in names), cwd=saved)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == set(names)
    done = inferload_here("export", "a.json", tmp_path / "c.xlsx", cwd=saved)
    assert done.returncode == 2
    assert "its ending says what is written" in " ".join(done.stderr.split())


def test_an_interrupted_run_says_so_in_its_markdown(saved: Path, tmp_path: Path):
    content = json.loads((saved / "a.json").read_text()) | {"status": "interrupted"}
    (tmp_path / "a.json").write_text(json.dumps(content))
    shutil.copy(saved / "a.calls", tmp_path)
    inferload_here("report", "a.json", "--markdown", "a.md", cwd=tmp_path)
    assert (tmp_path / "a.md").read_text().splitlines()[2].startswith("**interrupted")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "a b.py", "--json=x", "--html", "y", "--quiet"], "inferload run 'a b.py'"),
        (["run", "m.py", "--batch-sizes", "1,8", "--trace", "t"], "inferload run m.py"),
    ],
)
def test_a_command_is_told_without_where_its_result_goes(words, expected):
    assert made_by(words).startswith(expected)
    assert made_by(["run", "m.py", "--batch-sizes=1,8"], 8).endswith("--batch-sizes 8")


def test_what_torchrun_says_of_itself_is_in_the_command(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["inferload", "run", "m.py"])
    for name, value in {
        "WORLD_SIZE": "4",
        "LOCAL_WORLD_SIZE": "4",
        "GROUP_WORLD_SIZE": "1",
    }.items():
        monkeypatch.setenv(name, value)
    assert made_by() == "torchrun --nproc-per-node 4 -m inferload run m.py"
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    assert made_by().startswith("torchrun --nnodes 2 --rdzv-endpoint ... --nproc-per-node 4 -m")
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    assert made_by().startswith("torchrun ... -m inferload")


def test_the_shell_completes_commands_flags_and_values(tmp_path: Path):
    def completed(*words: str) -> list[str]:
        line = " ".join(["inferload", *words])
        done = subprocess.run(
            [Path(sys.executable).parent / "inferload"],
            env=os.environ
            | {"_INFERLOAD_COMPLETE": "complete_bash", "COMP_WORDS": line}
            | {"COMP_CWORD": str(len(words))},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        return done.stdout.split()

    assert completed("comp") == ["compare"]
    assert "--html" in completed("run", "m.py", "--ht")
    assert completed("run", "m.py", "--form", "s") == ["script"]
