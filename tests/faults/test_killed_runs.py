"""A run whose command line is killed (SIGKILL): no call that had finished is lost."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import inferload as il
from inferload.runs.partial.finding import found_in
from support.program import inferload

COUNTS = """
import os, time
import torch

class Counts(torch.nn.Module):
    def forward(self, x):
        with open(os.environ["COUNTED"], "ab", 0) as file:
            time.sleep(0.004)
            file.write(b"x")
            if "FAILS" in os.environ and file.tell() % 2:
                raise ValueError("odd")
        return x

model = Counts()

def inputs():
    return [torch.ones(1)]
"""


def started(folder: Path, *words: str, **environment: str) -> subprocess.Popen[bytes]:
    (folder / "counts.py").write_text(COUNTS)
    return subprocess.Popen(
        [sys.executable, "-m", "inferload", "run", "counts.py", "--json", "r.json", *words],
        cwd=folder,
        env={**os.environ, "COUNTED": str(folder / "counted"), **environment},
        stderr=subprocess.PIPE,
    )


def ended(run: subprocess.Popen[bytes]) -> int:
    """Its exit code."""
    run.communicate()
    return run.returncode


def killed_after(run: subprocess.Popen[bytes], folder: Path, calls: int) -> int:
    """Kill it once so many calls were made; how many were, when nobody made any more."""
    counted, partial = folder / "counted", folder / "r.json.partial"
    while not (
        (partial / "start").exists() and counted.exists() and counted.stat().st_size > calls
    ):
        assert run.poll() is None, run.communicate()[1].decode()
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.communicate()  # its children hold the other end of the pipe: they are gone, too
    return counted.stat().st_size


@pytest.mark.parametrize(
    "words",
    [
        ["--callers", "3", "--duration", "1h"],
        ["--callers", "2", "--rate", "200", "--duration", "1h"],
        ["--callers", "1", "--processes", "2", "--calls", "100000"],
        ["--callers", "2", "--duration", "1h", "--no-isolate"],
    ],
    ids=["closed", "open", "processes", "in this process"],
)
def test_all_calls_that_had_finished_are_found(tmp_path: Path, words: list[str]):
    run = started(tmp_path, *words, "--warmup", "0")
    made = killed_after(run, tmp_path, 200)
    folder = tmp_path / "r.json.partial"
    done = inferload("report", folder)
    assert done.returncode == 0, done.stderr
    assert "the run was killed before it was saved" in " ".join(done.stdout.split())
    found = found_in(folder)
    assert found.status == "interrupted"
    # a call may have written its letter and not yet its stamp; one makes the first call beforehand
    assert made - 5 <= found.log.calls_made <= made
    assert found.summary.failed_calls == 0
    assert "failed-calls" not in {one.code for one in found.warnings}
    assert set(np.unique(found.log.caller)) == set(range(found.spec.callers))
    # looking does not change what is there
    again = found_in(folder)
    assert np.array_equal(again.log.finished_ns, found.log.finished_ns)


def test_calls_that_failed_are_found_as_such(tmp_path: Path):
    run = started(tmp_path, "--duration", "1h", "--on-error", "record", FAILS="yes")
    made = killed_after(run, tmp_path, 200)
    found = found_in(tmp_path / "r.json.partial")
    assert made - 20 <= found.log.calls_made <= made
    assert 0.3 < found.summary.failed_calls / found.log.calls_made < 0.7
    assert set(np.unique(found.log.error)) == {-1, 0}
    assert "went with the process" in found.log.errors[0].message


def test_the_next_run_saves_what_the_last_one_left(tmp_path: Path):
    made = killed_after(started(tmp_path, "--duration", "1h"), tmp_path, 50)
    again = started(tmp_path, "--calls", "20")
    told = again.communicate()[1].decode()
    assert again.returncode == 0
    assert "killed before it was saved: its calls are now in" in told
    assert "error" not in told
    killed = il.load_result(tmp_path / "r.killed1.json")
    assert made - 20 <= killed.log.calls_made <= made
    assert il.load_result(tmp_path / "r.json").log.calls_made == 20
    assert not (tmp_path / "r.json.partial").exists()


def test_a_run_that_goes_on_is_left_alone(tmp_path: Path):
    run = started(tmp_path, "--duration", "1h")
    while not (tmp_path / "r.json.partial" / "start").exists():
        assert run.poll() is None
        time.sleep(0.01)
    try:
        other = started(tmp_path, "--calls", "20")
        words = other.communicate()[1].decode()
        assert other.returncode == 2
        assert f"process {run.pid}" in words
        told = inferload("report", tmp_path / "r.json.partial")
        assert told.returncode == 2
        assert "goes on" in told.stderr
    finally:
        run.send_signal(signal.SIGINT)
        run.communicate()
    assert il.load_result(tmp_path / "r.json").log.calls_made


def test_counted_calls_of_a_long_run_are_found(tmp_path: Path):
    """With a ring of few rows: most calls were counted, and their rows given back."""
    script = "from inferload.log import ring; ring.KEPT_CALLS = 2048\n"
    script += "from inferload.cli.main import main; import sys; sys.exit(main())"
    (tmp_path / "counts.py").write_text(COUNTS.replace("time.sleep(0.004)", "pass"))
    run = subprocess.Popen(
        [sys.executable, "-c", script, "run", "counts.py", "--json", "r.json", "--duration", "1h",
         "--warmup", "0", "--no-isolate"],
        cwd=tmp_path, env={**os.environ, "COUNTED": str(tmp_path / "counted")},
        stderr=subprocess.PIPE,
    )  # fmt: skip
    made = killed_after(run, tmp_path, 20_000)
    found = found_in(tmp_path / "r.json.partial")
    assert found.log.tally is not None
    assert made - 3 <= found.log.calls_made <= made


def test_a_run_that_is_over_leaves_no_folder(tmp_path: Path):
    assert ended(started(tmp_path, "--calls", "20")) == 0
    assert ended(started(tmp_path, "--calls", "20", "--callers", "0")) == 2
    names = {one.name for one in tmp_path.iterdir()} - {"__pycache__"}
    assert names == {"counted", "counts.py", "r.calls", "r.json"}


def test_a_run_that_cannot_be_told_keeps_its_folder(tmp_path: Path):
    """Whatever breaks between the last call and the saved file: the calls are there."""
    script = "import inferload.cli.running as running\n"
    script += "def broken(**_): raise AssertionError('a fault of our own')\n"
    script += "running.made_by = broken\n"
    script += "from inferload.cli.main import main; import sys; sys.exit(main())"
    (tmp_path / "counts.py").write_text(COUNTS)
    done = subprocess.run(
        [sys.executable, "-c", script, "run", "counts.py", "--json", "r.json", "--calls", "20",
         "--warmup", "0"],
        cwd=tmp_path, env={**os.environ, "COUNTED": str(tmp_path / "counted")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode
    assert "inferload report r.json.partial" in " ".join(done.stderr.split())
    assert found_in(tmp_path / "r.json.partial").log.calls_made == 20


def test_a_run_that_no_file_can_have_keeps_its_folder(tmp_path: Path):
    script = "from inferload.records.result import RunResult\n"
    script += "def full(*_): raise OSError(28, 'No space left on device')\n"
    script += "RunResult.save = full\n"
    script += "from inferload.cli.main import main; import sys; sys.exit(main())"
    (tmp_path / "counts.py").write_text(COUNTS)
    done = subprocess.run(
        [sys.executable, "-c", script, "run", "counts.py", "--json", "r.json", "--calls", "20",
         "--warmup", "0"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "COUNTED": str(tmp_path / "counted"), "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 1
    assert "inferload report r.json.partial" in " ".join(done.stderr.split())
    assert found_in(tmp_path / "r.json.partial").log.calls_made == 20
    folders = {one.name for one in tmp_path.iterdir() if one.name.startswith("inferload-")}
    assert folders <= {f"inferload-{os.getuid()}"}  # of caches


def test_of_two_that_start_at_once_one_saves_what_was_left_and_one_is_refused(tmp_path: Path):
    made = killed_after(started(tmp_path, "--duration", "1h"), tmp_path, 50)
    both = [started(tmp_path, "--duration", "5s") for _ in range(2)]
    assert sorted(ended(one) for one in both) == [0, 2]
    (killed,) = tmp_path.glob("r.killed*.json")
    assert made - 20 <= il.load_result(killed).log.calls_made <= made
    assert il.load_result(tmp_path / "r.json").log.calls_made
    assert not [one.name for one in tmp_path.iterdir() if "partial" in one.name]


def test_a_link_in_the_way_is_said_to_be(tmp_path: Path):
    (tmp_path / "r.json.partial").symlink_to(tmp_path / "elsewhere")
    run = started(tmp_path, "--calls", "20")
    _, words = run.communicate()
    assert run.returncode == 2
    assert "is in the way" in " ".join(words.decode().split())


@pytest.mark.parametrize("name", ["claims", "maps"])
def test_a_disk_that_cannot_have_the_log_is_done_without(tmp_path: Path, name: str):
    (tmp_path / "counts.py").write_text(COUNTS)
    script = {
        "claims": "from inferload.machine import disks; disks.is_remote = lambda _: True\n",
        "maps": "from inferload.log.ring import LogFile\nmade = LogFile.reserve\n"
        "def reserve(self, rows):\n if self.path: raise OSError(28, 'No space')\n"
        " made(self, rows)\nLogFile.reserve = reserve\n",
    }[name]
    script += "from inferload.cli.main import main; import sys; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", script, "run", "counts.py", "--json", "r.json", "--calls", "20"],
        cwd=tmp_path, env={**os.environ, "COUNTED": str(tmp_path / "counted")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert il.load_result(tmp_path / "r.json").log.calls_made == 20
    assert not (tmp_path / "r.json.partial").exists()


def test_a_damaged_folder_is_told_of(tmp_path: Path):
    killed_after(started(tmp_path, "--duration", "1h"), tmp_path, 20)
    folder = tmp_path / "r.json.partial"
    content = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**content, "parts": 3}))
    done = inferload("report", folder)
    assert done.returncode == 2
    assert re.search(r"run\.json is damaged", done.stderr)
    assert "Traceback" not in done.stderr
