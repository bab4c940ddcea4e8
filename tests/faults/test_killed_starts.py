"""What a run has left that was killed, and cannot be read, or whose saving was killed as well."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import inferload as il
from inferload.cli.kept import kept_beside
from inferload.errors import ResultFormatError
from inferload.log.ring import LogFile
from inferload.runs.partial.finding import found_in
from support.program import inferload

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = """
import os, time

def model(x):
    time.sleep(3600 if os.path.exists("hangs") else 0.002)
    return x

def inputs():
    return [(1,)]
"""


SCRIPT = """
import sys
from inferload.cli.main import main
from inferload.records.result import RunResult

def full(*_):
    raise OSError(28, "No space left on device")

RunResult.save = full
sys.exit(main())
"""


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """The folder of a run of 60 calls that was not saved, and whose process is no more."""
    (tmp_path / "m.py").write_text(MODEL)
    words = ["run", "m.py", "--callers", "2", "--calls", "60", "--warmup", "0", "--json", "r.json"]
    subprocess.run([sys.executable, "-c", SCRIPT, *words], cwd=tmp_path, check=False)
    return tmp_path / "r.json.partial"


def killed_warning(found: il.RunResult) -> str:
    """What is said of its end."""
    (message,) = [one.message for one in found.warnings if one.code == "killed"]
    return message


def start(folder: Path) -> str:
    """Start another run that is to be saved there; what it says."""
    done = inferload("run", "m.py", "--calls", "5", "--json", "r.json", cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    return " ".join(done.stderr.split())


def test_a_run_that_is_damaged_stays(left: Path):
    text = (left / "run.json").read_text()
    (left / "run.json").write_text(text.replace('"parts"', '"partz"'))
    with pytest.raises(ResultFormatError, match="another version's"):
        found_in(left)
    told = start(left)
    kept = left.with_name("r.damaged1")
    assert "cannot be read" in told
    assert "it is left in r.damaged1" in told
    assert not left.exists()
    (kept / "run.json").write_text(text)
    assert found_in(kept).log.calls_made == 60


@pytest.mark.parametrize("name", ["r.json.partial.999999999", "r.json.partial"])
def test_a_start_that_is_killed_while_it_saves_loses_nothing(left: Path, name: str):
    if left.name != name:
        left.rename(left.with_name(name))
    told = start(left)
    assert "its calls are now in" in told
    assert il.load_result(left.with_name("r.killed1.json")).log.calls_made == 60
    assert sorted(one.name for one in left.parent.glob("r.*")) == [
        "r.calls", "r.json", "r.killed1.calls", "r.killed1.json",
    ]  # fmt: skip


def test_a_name_may_have_what_means_something_in_patterns(left: Path):
    left.rename(left.with_name("a**[1].json.partial.999999999"))
    done = inferload("run", "m.py", "--calls", "5", "--json", "a**[1].json", cwd=left.parent)
    assert done.returncode == 0, done.stderr
    assert il.load_result(left.with_name("a**[1].killed1.json")).log.calls_made == 60


def test_ctrl_c_while_it_is_saved_leaves_it_where_it_was(left: Path, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("inferload.records.result.RunResult.save", interrupted)
    with pytest.raises(KeyboardInterrupt), kept_beside(left.with_name("r.json")):
        pass
    assert found_in(left).log.calls_made == 60


def test_rows_that_cannot_be_are_left_out_and_told_of(left: Path):
    (path,) = left.glob("*.calls")
    content = bytearray(path.read_bytes())
    (part,) = json.loads((left / "run.json").read_text())["parts"]
    log = LogFile.left_behind(path, part["rows"], part["room"], part["columns"])
    offset = log._offset("caller")
    log.close()
    content[offset + 4 * 7 + 2] ^= 8
    path.write_bytes(content)
    found = found_in(left)
    assert found.log.calls_made == 59
    assert set(np.unique(found.log.caller)) == {0, 1}
    assert "1 call left out, whose rows are damaged" in killed_warning(found)


def test_what_is_no_file_is_not_waited_for(left: Path):
    (left / "run.json").unlink()
    os.mkfifo(left / "run.json")
    with pytest.raises(ResultFormatError, match="is no file"):
        found_in(left)


def test_names_of_logs_lead_nowhere_else(left: Path):
    text = (left / "run.json").read_text()
    (left / "run.json").write_text(text.replace('"0-0.calls"', '"../../0-0.calls"'))
    with pytest.raises(ResultFormatError, match="no log is "):
        found_in(left)


def test_calls_that_were_due_while_one_hung_are_told_of(tmp_path: Path):
    (tmp_path / "m.py").write_text(MODEL)
    words = ["run", "m.py", "--rate", "100", "--arrivals", "constant", "--duration", "1h"]
    run = subprocess.Popen(
        [sys.executable, "-m", "inferload", *words, "--json", "r.json"], cwd=tmp_path
    )
    start, seen = (tmp_path / "r.json.partial" / name for name in ("start", "seen"))
    while not start.exists():
        assert run.poll() is None
        time.sleep(0.01)
    (tmp_path / "hangs").touch()
    while int.from_bytes(seen.read_bytes() if seen.exists() else b"", "little") < (
        int(start.read_text() or 0) + 2_000_000_000
    ):
        assert run.poll() is None
        time.sleep(0.01)
    run.kill()
    run.wait()
    found = found_in(start.parent)
    assert found.log.calls_made + found.summary.unfinished_calls >= 195
    assert found.summary.unfinished_calls > 0
    assert "1 call in flight went with it, for" in killed_warning(found)


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose name leaves room for those of sockets, of which 108 bytes are all."""
    with tempfile.TemporaryDirectory(prefix="t-") as folder:
        yield Path(folder)


def test_nothing_of_killed_processes_that_share_a_model_stays(tmp_path: Path, short: Path):
    (tmp_path / "m.py").write_text(
        "import torch\nmodel = torch.nn.Linear(4, 4)\n"
        "def inputs():\n    return [torch.ones(1, 4)]\n"
    )
    words = ["m.py", "--processes", "2", "--callers", "1", "--duration", "1h", "--json", "r.json"]
    run = subprocess.Popen(
        [sys.executable, "-m", "inferload", "run", *words],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(short)},
    )
    while not (tmp_path / "r.json.partial" / "start").exists():
        assert run.poll() is None
        time.sleep(0.01)
    run.kill()
    run.wait()
    words = ["m.py", "--processes", "2", "--callers", "1", "--calls", "5", "--json", "r.json"]
    subprocess.run(
        [sys.executable, "-m", "inferload", "run", *words],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(short)},
        check=True,
    )
    assert {one.name for one in short.iterdir()} <= {f"inferload-{os.getuid()}"}  # of caches
