"""Files are whole whatever happens to the terminal, and good ones are not replaced by nothing."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

import inferload as il
from support.forks import Forked
from support.program import run

MODEL = """
import torch
class Fails(torch.nn.Module):
    def forward(self, x):
        raise ValueError("no")
class Late(torch.nn.Module):
    made = 0
    def forward(self, x):
        Late.made += 1
        if Late.made > 5:
            raise ValueError("no more")
        return x
def model():
    return torch.nn.Linear(4, 4)
fails, late = Fails(), Late()
def inputs():
    return [torch.ones(1, 4)]
"""
FILES = ("r.json", "r.calls", "r.html", "r.md")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MODEL)
    return tmp_path


def words(folder: Path, name: str = "model", *more: str) -> list[str]:
    own = ["--json", "r.json", "--html", "r.html", "--markdown", "r.md", "--calls", "50"]
    started = [sys.executable, "-m", "inferload", "run", f"mine.py:{name}", *own]
    return [*started, "--no-isolate", "--warmup", "2", *more]


def shell(folder: Path, line: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line, "bash", *words(folder)],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=300,
        env=os.environ | more,
    )


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ('"$@" | head -1; exit ${PIPESTATUS[0]}', 0, ""),
        ('"$@" > /dev/full', 1, "the report could not be printed: No space left on device"),
        ('"$@" >&-', 0, ""),
        ('"$@" >&- 2>&- <&-', 0, ""),
        ('"$@" 2> /dev/full', 0, ""),
    ],
)
def test_a_terminal_that_takes_nothing_keeps_no_file_from_being_written(line, code, said, folder):
    done = shell(folder, line)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert all((folder / name).stat().st_size for name in FILES)
    assert il.load_result(folder / "r.json").summary.completed_calls == 50


@pytest.mark.parametrize(
    "setting",
    [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"},
     {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
)  # fmt: skip
def test_a_terminal_that_is_no_utf_8_draws_what_it_can(setting, folder):
    done = shell(folder, '"$@"', **setting)
    assert done.returncode == 0, done.stderr
    assert "#" * 10 in done.stdout
    assert all((folder / name).stat().st_size for name in FILES)
    again = [sys.executable, "-m", "inferload", "report", "r.json", "r.json"]
    both = subprocess.run(
        again, check=False, capture_output=True, cwd=folder, env=os.environ | setting, timeout=100
    )
    assert both.returncode == 0, both.stderr
    assert both.stdout.isascii()


def test_a_terminal_has_a_live_line_and_then_the_report(folder):
    ours, theirs = pty.openpty()
    with Forked(words(folder), stdout=theirs, stderr=theirs, cwd=folder) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            shown += part
    os.close(ours)
    assert process.returncode == 0
    text = shown.decode()
    assert "warming up 1 caller" in text
    assert "█" in text
    assert text.index("warming up") < text.index("throughput")


def test_a_run_of_no_call_leaves_good_files_as_they_are(folder):
    assert run(words(folder), cwd=folder).returncode == 0
    before = {name: (folder / name).read_bytes() for name in FILES}
    failed = run(words(folder, "fails"), cwd=folder)
    assert failed.returncode == 1
    for name in ("r.json", "r.html", "r.md"):
        assert f"{name} is left as it was: nothing was measured" in failed.stderr
    assert {name: (folder / name).read_bytes() for name in FILES} == before
    assert il.load_result(folder / "r.failed.json").status == "failed"
    # what has calls is what was asked for, whole or not
    partial = run(words(folder, "late"), cwd=folder)
    assert partial.returncode == 1
    assert il.load_result(folder / "r.json").summary.completed_calls == 3


def test_a_run_of_no_call_is_written_where_nothing_is_lost(folder):
    for _ in range(2):
        failed = run(words(folder, "fails"), cwd=folder)
        assert failed.returncode == 1
        assert il.load_result(folder / "r.json").status == "failed"
    assert not (folder / "r.failed.json").exists()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_result_can_be_printed_on_any_terminal(encoding: str):
    script = (
        "import torch, inferload as il\n"
        "print(il.run(torch.nn.Linear(2, 2), [torch.zeros(1, 2)], calls=50, warmup_calls=1))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode()
    bar = {"utf-8": "█"}.get(encoding, "#")
    assert f" {bar}{bar}" in done.stdout.decode(encoding)
