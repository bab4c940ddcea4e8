"""What a model finds in the process it runs in: what it would find in its user's own program."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from support.forks import Forked
from support.gates import PATIENCE_S, until
from support.program import IMPATIENT, inferload

pytestmark = pytest.mark.multiprocess

# Each call does what models of services do, and raises where something is not as without us.
MODEL = """
import concurrent.futures, multiprocessing as mp, os, signal, subprocess, sys, torch

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DEFAULT = [signal.default_int_handler, signal.SIG_DFL, signal.SIG_DFL]
SHOWS = (
    "import signal as s; print([s.getsignal(n).name for n in (15, 1)], *s.pthread_sigmask(0, []))"
)

def double(x):
    return 2 * x

class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 2
    def __getitem__(self, index):
        return torch.ones(1)

class Serves(torch.nn.Module):
    def forward(self, x):
        child = subprocess.Popen(["sleep", "60"])
        child.terminate()
        assert child.wait() == -signal.SIGTERM
        shown = subprocess.run([sys.executable, "-c", SHOWS], capture_output=True, text=True)
        assert shown.stdout == "['SIG_DFL', 'SIG_DFL']\\n", shown.stdout
        pid = os.fork()
        if not pid:
            os._exit([signal.getsignal(one) for one in ENDING] != DEFAULT)
        assert os.waitpid(pid, 0)[1] == 0
        pid = os.fork()
        if not pid:
            raise SystemExit  # ends this process, and is no call that failed
        assert os.waitpid(pid, 0)[1] == 0
        assert mp.get_start_method(allow_none=True) is None
        assert mp.current_process().name == "MainProcess" and mp.parent_process() is None
        with mp.get_context("fork").Pool(1) as pool:  # its end is a SIGTERM
            assert pool.map(double, [1]) == [2]
        batches = torch.utils.data.DataLoader(
            Data(), num_workers=1, multiprocessing_context="fork"
        )
        return x + sum(batch.sum() for batch in batches)

class Spawns(torch.nn.Module):
    def forward(self, x):
        with mp.get_context("spawn").Pool(1) as pool:
            assert pool.map(double, [1]) == [2]
        return x

class Imports(torch.nn.Module):
    def forward(self, x):
        import beside
        return x + beside.ONE

class StartsAndHangs(torch.nn.Module):
    def forward(self, x):
        child = subprocess.Popen(["sleep", "600"])
        print(child.pid, flush=True)
        child.wait()
        return x

serves, spawns, imports, starts = Serves(), Spawns(), Imports(), StartsAndHangs()
def inputs():
    return [torch.ones(1)]
"""

OWN_PROGRAM = """
import multiprocessing as mp, sys, torch, inferload as il, mine
if __name__ == "__main__":
    for processes in (None, 1, 2):
        result = il.run(mine.serves, [torch.ones(1)], processes=processes, calls=2, warmup_calls=1)
        assert mp.get_start_method(allow_none=True) is None
        print(result.status, result.summary.completed_calls)
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("ONE = 1\n")
    path = tmp_path / "mine.py"
    path.write_text(MODEL)
    return path


WAYS = ["--isolate", "--no-isolate", "--processes=2"]


@pytest.mark.parametrize("way", WAYS)
def test_children_pools_and_loaders_of_a_model_work_as_without_us(way, model):
    done = inferload("run", f"{model}:serves", "--calls", 2, "--warmup", 1, way)
    assert done.returncode == 0, done.stderr


def test_they_work_in_the_process_of_a_study(model):
    words = ["--callers", "1,2", "--blocks", 1, "--calls", 2, "--warmup", 1]
    done = inferload("sweep", f"{model}:serves", *words)
    assert done.returncode == 0, done.stderr


def test_they_work_in_a_program_of_the_user_and_its_start_method_stays_its_own(model, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(OWN_PROGRAM)
    words = [sys.executable, str(program)]  # started, not forked as those of other tests
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines() == ["complete 2"] * 3, done.stderr


@pytest.mark.parametrize("way", WAYS[1:])
@pytest.mark.parametrize("name", ["spawns", "imports"])
def test_what_lies_beside_a_model_is_found_in_calls_and_in_processes_it_spawns(name, way, model):
    done = inferload("run", f"{model}:{name}", "--calls", 2, "--warmup", 0, way)
    assert done.returncode == 0, done.stderr


def test_what_a_model_has_started_ends_with_a_run_that_is_interrupted(model):
    words = ["run", f"{model}:starts", "--warmup", "0", "--calls", "5"]
    with Forked(
        [sys.executable, IMPATIENT, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as started:
        child = psutil.Process(int(started.stdout.readline()))
        family = [*psutil.Process(started.pid).children(recursive=True), child]
        started.send_signal(signal.SIGTERM)
        started.communicate(timeout=PATIENCE_S)
        assert started.returncode == 130
    _, alive = psutil.wait_procs(set(family), timeout=PATIENCE_S)
    assert not alive


def test_ctrl_z_suspends_the_callers_too(model, tmp_path):
    path = tmp_path / "steady.py"
    path.write_text(
        "import time, torch\n"
        "class Steady(torch.nn.Module):\n"
        "    def forward(self, x):\n        time.sleep(0.001)\n        return x\n"
        "model = Steady()\ndef inputs():\n    return [torch.ones(1)]\n"
    )
    words = ["run", str(path), "--duration", "60s", "--json", str(tmp_path / "r.json")]
    with subprocess.Popen(
        [sys.executable, "-m", "inferload", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=os.setpgrp,  # noqa: PLW1509 - a group that a shell would stop
    ) as started:
        for line in started.stderr:
            if "warming up" in line:
                break
        own = psutil.Process(started.pid)
        started.send_signal(signal.SIGTSTP)
        family = [own, *own.children(recursive=True)]
        callers = [one for one in family if "orders.follow" in " ".join(one.cmdline())]
        assert callers
        until(lambda: all(one.status() == psutil.STATUS_STOPPED for one in [own, *callers]))
        started.send_signal(signal.SIGCONT)
        until(lambda: all(one.status() != psutil.STATUS_STOPPED for one in [own, *callers]))
        started.send_signal(signal.SIGINT)
        started.communicate(timeout=PATIENCE_S)
        assert started.returncode == 130
    assert json.loads((tmp_path / "r.json").read_text())["status"] == "interrupted"


def test_what_a_model_prints_and_does_at_its_exit_is_seen(tmp_path):
    path = tmp_path / "prints.py"
    path.write_text(
        "import atexit, torch\n"
        "atexit.register(lambda: print('left'))\n"
        "print('loaded')\n"
        "def model():\n    return torch.nn.Identity()\n"
        "def broken():\n    raise ValueError('no weights')\n"
        "def inputs():\n    return [torch.ones(1)]\n"
    )
    done = inferload("run", path, "--calls", 5)
    assert {"loaded", "left"} <= set(done.stdout.split())
    refused = inferload("run", f"{path}:broken", "--calls", 5)
    assert refused.returncode == 2
    assert {"loaded", "left"} <= set(refused.stdout.split())
