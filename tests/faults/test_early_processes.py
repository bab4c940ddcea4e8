"""Processes that are started before their orders are known, and what is left of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

import inferload as il
from inferload.callers.processes import early
from inferload.callers.processes.early import OrderedProcess
from inferload.callers.processes.words import Descriptor

STEADY = """
import os, time, torch

class Steady(torch.nn.Module):
    def forward(self, x):
        time.sleep(0.001)
        return x

model = Steady()

def inputs():
    return [torch.ones(1)]
"""


def of_session(number: int) -> list[str]:
    """The processes of a session, by their words."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it may have ended meanwhile
            _, _, _, session = (path / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(session) == number:
                found.append((path / "cmdline").read_text())
    return found


@pytest.mark.parametrize(
    "words",
    [
        ["run", "steady.py", "--calls", "10"],
        ["run", "steady.py", "--calls", "10", "--processes", "2"],
        ["run", "steady.py", "--calls", "10", "--no-isolate"],
        ["run", "steady.py", "--calls", "10", "--pin", "cores"],
        ["run", "steady.py", "--calls", "none"],
        ["run", "nowhere.py", "--calls", "10"],
        ["sweep", "steady.py", "--calls", "10", "--callers", "1,2"],
    ],
    ids=["one", "several", "in this process", "pinned", "wrong words", "no model", "a study"],
)
def test_no_process_is_left_when_the_command_line_returns(tmp_path: Path, words: list[str]):
    (tmp_path / "steady.py").write_text(STEADY)
    with subprocess.Popen(
        [sys.executable, "-m", "inferload", *words],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    ) as run:  # fmt: skip
        code = run.wait()
        left = of_session(run.pid)
    assert left == []
    assert code == (2 if words[-1] == "none" or "nowhere.py" in words else 0)


@pytest.mark.parametrize(("words", "loads"), [([], True), (["--pin", "cores"], False)])
def test_the_process_of_a_run_has_loaded_before_it_has_orders(
    tmp_path: Path, words: list[str], loads: bool
):
    """Unless its cores must be known before torch is imported, which counts them."""
    (tmp_path / "steady.py").write_text(STEADY)
    run = subprocess.Popen(
        [sys.executable, "-m", "inferload", "run", "steady.py", "--duration", "1h",
         "--json", "r.json", *words],
        cwd=tmp_path, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not (tmp_path / "r.json.partial" / "start").exists():
        assert run.poll() is None
        time.sleep(0.01)
    (child,) = psutil.Process(run.pid).children()
    assert ("entry.load" in child.cmdline()[-2]) is loads
    run.terminate()
    run.wait()
    assert il.load_result(tmp_path / "r.json").status == "interrupted"


def read_all(files: list[Descriptor], told: Descriptor) -> None:
    """Write what is in each of the files, in their order."""
    content = b"".join(os.pread(one.fileno, 10, 0) for one in files)
    os.write(told.fileno, content)


def test_more_descriptors_than_one_message_can_carry_come_in_their_order(tmp_path: Path):
    numbers = []
    for number in range(300):
        (tmp_path / str(number)).write_text(f"{number} ")
        numbers.append(os.open(tmp_path / str(number), os.O_RDONLY))
    here, there = os.pipe()
    process = OrderedProcess(
        target=read_all, args=([Descriptor(one) for one in numbers], Descriptor(there))
    )
    process.start()
    process.join()
    found = os.read(here, 10_000).decode().split()
    for one in (*numbers, here, there):
        os.close(one)
    assert process.exitcode == 0
    assert found == [str(one) for one in range(300)]


def test_a_process_that_waits_in_another_environment_is_not_taken(monkeypatch: pytest.MonkeyPatch):
    early.start_early()
    first = early._Early.process.pid
    monkeypatch.setenv("MADE_UP_LATER", "yes")
    process = OrderedProcess(target=os.getpid)
    process.start()
    process.join()
    assert process.exitcode == 0
    assert process.pid != first
    assert not psutil.pid_exists(first)


def test_a_process_that_has_died_while_it_waited_is_told_of():
    early.start_early()
    os.kill(early._Early.process.pid, 9)
    process = OrderedProcess(target=os.getpid)
    process.start()
    process.join()
    assert process.exitcode == -9


@pytest.mark.parametrize("words", [[], ["--processes", "2"]], ids=["one", "several"])
def test_a_torch_that_cannot_be_imported_is_told_of_in_a_sentence(tmp_path: Path, words: list[str]):
    (tmp_path / "steady.py").write_text(STEADY)
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('libtorch.so is not there')")
    done = subprocess.run(
        [sys.executable, "-m", "inferload", "run", "steady.py", "--calls", "10", *words],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "torch cannot be imported: libtorch.so is not there" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words", [["--processes", "2", "--calls", "10"], ["--calls", "10"], ["--calls", "none"]]
)
def test_whoever_starts_it_may_ignore_the_ends_of_children(tmp_path: Path, words: list[str]):
    """A service manager may, and programs hand that on to what they start."""
    (tmp_path / "steady.py").write_text(STEADY)
    script = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
    script += "os.execv(sys.executable, [sys.executable, '-m', 'inferload', *sys.argv[1:]])"
    done = subprocess.run(
        [sys.executable, "-c", script, "run", "steady.py", *words],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == (2 if "none" in words else 0), done.stderr
    assert "Traceback" not in done.stderr
