"""Models that end their process, never return, or are killed: what had finished is kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

import inferload as il
from support import models
from support.gates import PATIENCE_S, until
from support.program import inferload, inferload_here

pytestmark = pytest.mark.multiprocess

X = torch.zeros(1)

MODEL = """
import ctypes, os, sys, time, torch
TOLD = []
def tell(calls):  # in a file of this process
    if not TOLD:
        TOLD.append(os.open(f"{__file__}.{os.getpid()}", os.O_CREAT | os.O_WRONLY))
    os.pwrite(TOLD[0], b"%9d" % calls, 0)
class Model(torch.nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how, self.calls = how, 0
    def forward(self, x):
        self.calls += 1
        tell(self.calls)
        if self.calls > 200 and x.shape[0] == 2:
            if self.how == "segfault":
                ctypes.string_at(0)
            if self.how == "abort":
                os.abort()
            if self.how == "exit":
                os._exit(7)
            if self.how == "hang":
                time.sleep(600)
        time.sleep(0.0005)
        return x
segfault = Model("segfault")
abort = Model("abort")
leave = Model("exit")
hang = Model("hang")
steady = Model("steady")
class Early(torch.nn.Module):
    def forward(self, x):
        os.abort()
early = Early()
class Stuck(torch.nn.Module):
    def forward(self, x):
        time.sleep(600)
stuck = Stuck()
def while_loading():
    os.kill(os.getpid(), 9)
def inputs():
    return [torch.ones(1), torch.ones(1), torch.ones(2)]
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MODEL)
    return path


def run(*words: object) -> tuple[int, str, str]:
    # after a call that hangs in its own process the program does not end as others do
    start = inferload if "--no-isolate" in words else inferload_here
    done = start("run", *words)
    return done.returncode, " ".join(done.stdout.split()), " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("name", "ended"),
    [
        ("segfault", "was ended by SIGSEGV"),
        ("abort", "was ended by SIGABRT"),
        ("leave", "left by itself with exit code 7"),
    ],
)
def test_a_crash_is_exit_code_3_a_sentence_and_every_call_before_it(name, ended, model, tmp_path):
    path = tmp_path / "r.json"
    code, shown, said = run(f"{model}:{name}", "--calls", 5000, "--json", path)
    assert code == 3
    assert f"Model {ended}" in said
    assert "while caller 0 was on input 2" in said
    if name != "leave":  # of an exit there is no stack
        assert f"({model}:" in said
    assert "Traceback" not in said
    result = il.load_result(path)
    assert result.status == "crashed"
    # ten calls to warm up; the 200th call, or the first on input 2 after it, was the last
    assert 190 <= result.summary.completed_calls < 195
    assert result.processes[0].ending.in_flight == ((0, 2),)
    assert "process-died" in shown


def test_a_crash_before_the_start_is_said_and_has_no_result(model, tmp_path):
    code, _, said = run(f"{model}:early", "--json", tmp_path / "r.json")
    assert code == 3
    assert "SIGABRT" in said
    assert "while it warmed up" in said
    assert "no call was measured yet" in said
    assert not (tmp_path / "r.json").exists()
    code, _, said = run(f"{model}:while_loading")
    assert code == 3
    assert "SIGKILL" in said


def callers_processes(of: int) -> list[psutil.Process]:
    """The processes with callers, in the order in which they were started."""
    found = [
        child
        for child in psutil.Process(of).children(recursive=True)
        if "orders.follow" in " ".join(child.cmdline()) and not child.children()
    ]
    return sorted(found, key=lambda child: child.pid)


def calls_begun(model: Path, pid: int) -> int:
    """How many calls a process has begun, as the model in it says, those to warm up included."""
    told = Path(f"{model}.{pid}")
    return int(told.read_bytes() or 0) if told.exists() else 0


def until_calling(started: subprocess.Popen[str], model: Path, processes: int) -> list[int]:
    """Wait until each process has made 100 calls; their numbers."""
    for line in started.stderr:
        if "warming up" in line:
            break
    found: list[int] = []

    def all_call() -> bool:
        found[:] = [one.pid for one in callers_processes(started.pid)]
        return len(found) == processes and min(calls_begun(model, pid) for pid in found) > 100

    until(all_call)
    return found


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("on_error", ["stop", "record"])
def test_a_process_that_is_killed_leaves_every_finished_call(processes, on_error, model, tmp_path):
    path = tmp_path / "r.json"
    duration_s = 60 if on_error == "stop" else 6
    words = ["--processes", processes, "--duration", f"{duration_s}s", "--warmup", 5]
    words += ["--on-error", on_error, "--json", path]
    with subprocess.Popen(
        [sys.executable, "-m", "inferload", "run", f"{model}:steady", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as started:
        victim = until_calling(started, model, processes)[-1]
        os.kill(victim, signal.SIGKILL)
        _, said = started.communicate(timeout=PATIENCE_S)
        assert started.returncode == 3
    assert "was killed by SIGKILL" in said
    result = il.load_result(path)
    assert result.summary.completed_calls == len(result.log)  # nothing is cut as warm-up
    killed = result.log.process == processes - 1
    # none is missing: of those it had begun five were to warm up, and one was perhaps in flight
    assert calls_begun(model, victim) - 5 - int(killed.sum()) in {0, 1}
    assert result.log.finished_ns[killed].max() / 1e9 <= result.processes[-1].ending.after_s
    if processes == 2:
        others_s = result.log.finished_ns[~killed].max() / 1e9
        assert (others_s >= duration_s) == (on_error == "record")
        assert result.processes[0].ending is None
        assert "process 1" in said


@pytest.mark.parametrize("isolate", ["--isolate", "--no-isolate"])
def test_a_call_that_hangs_is_recorded_and_ends_the_run(isolate, model, tmp_path):
    path = tmp_path / "r.json"
    code, shown, said = run(
        f"{model}:hang", "--duration", "1h", "--timeout", "2s", "--json", path, isolate
    )
    assert code == 1
    assert "had not returned to caller 0 from input 2 after 2 s" in said
    result = il.load_result(path)
    assert result.status == "timed out"
    assert result.summary.failed_calls == 1
    assert result.log.errors[0].type == "TimedOut"
    failed = int(np.flatnonzero(result.log.error >= 0)[0])
    assert result.log.service_ns[failed] > 2e9
    assert result.log.input[failed] == 2
    assert 190 <= result.summary.completed_calls < 195
    assert "TimedOut: had not returned" in shown


def test_a_call_that_hangs_in_one_process_ends_the_run_of_all():
    model, slow = models.Sleeps(0.001), models.SleepsOn(size=3, seconds=600)
    with pytest.raises(il.CallError, match="had not returned") as caught:
        il.run(slow, [X] * 5 + [torch.zeros(3)], processes=2, duration_s=60, timeout_s=2.0)
    assert caught.value.input == 5
    result = caught.value.result
    assert result.summary.failed_calls >= 1
    assert result.summary.littles_law is None
    fine = il.run(model, [X], processes=2, calls=100, timeout_s=60.0)
    assert fine.status == "complete"


def test_a_warm_up_that_hangs_ends_the_run(model):
    code, _, said = run(f"{model}:stuck", "--warmup", 1, "--timeout", "300ms")
    assert code == 1
    assert "while warming up" in said


def test_an_interrupt_reaches_every_process_and_keeps_the_calls(model, tmp_path):
    path = tmp_path / "r.json"
    words = ["--processes", "2", "--duration", "60s", "--json", str(path)]
    with subprocess.Popen(
        [sys.executable, "-m", "inferload", "run", f"{model}:steady", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as started:
        until_calling(started, model, 2)
        children = callers_processes(started.pid)
        os.killpg(started.pid, signal.SIGINT)  # as a terminal sends it: to all of them
        _, said = started.communicate(timeout=PATIENCE_S)
        assert started.returncode == 130
    assert "Traceback" not in said
    result = il.load_result(path)
    assert result.status == "interrupted"
    assert set(result.log.process) == {0, 1}
    assert not any(child.is_running() for child in children)


def test_no_process_outlives_its_starter(model):
    words = ["--processes", "2", "--duration", "60s"]
    with subprocess.Popen(
        [sys.executable, "-m", "inferload", "run", f"{model}:steady", *words],
        stderr=subprocess.PIPE,
        text=True,
    ) as started:
        for line in started.stderr:
            if "warming up" in line:
                break
        until(lambda: len(callers_processes(started.pid)) == 2)
        children = callers_processes(started.pid)
        started.kill()
    gone, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
    assert not alive
    assert len(gone) == 2


def test_the_memory_killer_is_told_from_other_kills(monkeypatch):
    from inferload.callers.processes import process as module

    class Killed:
        exitcode = -9

    one = module.CallersProcess(0, Killed(), None, None)
    monkeypatch.setattr(module, "out_of_memory_kills", lambda: 5)
    assert "out of memory" in one.ending(Path("/nowhere"), 1.0, (), 4).how
    assert "somebody sent" in one.ending(Path("/nowhere"), 1.0, (), 5).how
