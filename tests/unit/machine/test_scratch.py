"""Scratch folders: whose they are, and which of them go."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from inferload.machine import scratch

if TYPE_CHECKING:
    from collections.abc import Iterator

# it says where it is, and then waits for a line
MAKES = "from inferload.machine.scratch import scratch_folder; print(scratch_folder(), flush=True)"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


@contextmanager
def made_by(code: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    pipe = subprocess.PIPE
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        (folder / "model.pt").write_bytes(b"weights")
        yield process, folder


def test_the_folder_of_a_process_that_was_killed_goes_with_the_next_one():
    with made_by(f"{MAKES}; input()") as (process, folder):
        scratch.clear_left_behind()
        assert folder.is_dir()  # its owner runs
        process.kill()
        process.wait()
        mine = scratch.scratch_folder()
    assert mine.is_dir()
    assert not folder.exists()


def test_a_dead_owner_that_nobody_has_waited_for_does_not_run():
    with made_by(MAKES) as (process, folder):
        while scratch.started_at(process.pid) is not None:
            time.sleep(0.01)
        scratch.clear_left_behind()
        assert not folder.exists()


def test_what_is_not_known_to_be_left_behind_stays(tmp_path: Path):
    mine = scratch.scratch_folder()
    home, pid, started = mine.name.split("-")[1:4]
    others = [
        "inferload-1234",
        f"inferload-00000000-{2**22 + 1}-1-of-another-machine",
        f"inferload-{home}-{pid}-{started}-of-another-part",
    ]
    for name in others:
        (tmp_path / name).mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / f"inferload-{home}-{2**22 + 1}-1-link").symlink_to(elsewhere)
    again = tmp_path / f"inferload-{home}-{pid}-{int(started) + 1}-the-number-is-another's-now"
    again.mkdir()
    scratch.clear_left_behind()
    assert all((tmp_path / name).is_dir() for name in [*others, mine.name, "elsewhere"])
    assert not again.exists()
