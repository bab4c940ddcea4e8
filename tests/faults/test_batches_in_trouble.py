"""Batches of runs that signals, kills or a full disk end: what was answered is kept, whole."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import inferload as il
from inferload.callers.native.build import native_extension
from support.batched_runs import check_rows
from support.disks import may_mount
from support.forks import Forked
from support.gates import PATIENCE_S
from support.program import IMPATIENT, inferload, inferload_here

MODEL = """
import os, signal, sys, time, torch
class Batches(torch.nn.Module):
    made = 0
    def __init__(self, at=0, dies=False):
        super().__init__()
        self.at, self.dies = at, dies
    def forward(self, x):
        self.made += 1
        if self.made == self.at:
            sys.stdout.write("hanging\\n")
            sys.stdout.flush()
            if self.dies:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(10_000)
        time.sleep(0.003)
        return x * 2
steady, hangs, dies = Batches(), Batches(60), Batches(60, dies=True)
def inputs():
    return [torch.ones(1, 2), torch.full((1, 2), 2.0)]
"""
OPEN = ("--rate", "2000", "--callers", "2")
CLIENTS = ("--clients", "24", "--callers", "2", "--think", "constant:2ms")
BATCHES = ("--max-batch", "8", "--max-delay", "2ms", "--threads-per-call", "1", "--warmup", "3")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MODEL)
    return path


def whole(path: Path, *, given_up: int = 0) -> il.RunResult:
    """A result whose rows are whole batches, as a summary of them says."""
    result = il.load_result(path)
    check_rows(result.log, 8)
    summary = result.summary
    own = np.unique(result.log.batches["batch"][result.log.completed])
    # nothing is cut at either end of a run that was ended
    assert summary.completed_calls == int(result.log.completed.sum()) >= 100
    assert summary.batches.batches == len(own) < summary.completed_calls / 1.5
    assert any(one.code == "calls-given-up" for one in result.warnings) == bool(given_up)
    return result


@pytest.mark.multiprocess
@pytest.mark.parametrize(
    ("number", "load", "way"),
    [
        (signal.SIGTERM, OPEN, "--isolate"),
        (signal.SIGINT, CLIENTS, "--no-isolate"),
        (signal.SIGHUP, OPEN, "--processes=2"),
    ],
)
def test_a_signal_gives_up_the_batch_that_hangs_and_saves_the_others(
    number, load, way, model, tmp_path
):
    path = tmp_path / "r.json"
    words = ["run", f"{model}:hangs", *load, *BATCHES, "--duration", "1h", "--json", str(path), way]
    with Forked(
        [sys.executable, IMPATIENT, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "hanging\n"
        process.send_signal(number)
        shown, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, said
    assert f"{number.name} ended the run after" in said
    assert "Traceback" not in said
    assert "batches" in shown
    assert whole(path, given_up=1).status == "interrupted"


@pytest.mark.multiprocess
@pytest.mark.parametrize("load", [OPEN, CLIENTS])
def test_a_process_that_is_killed_in_a_batch_leaves_those_before(load, model, tmp_path):
    path = tmp_path / "r.json"
    words = ["run", f"{model}:dies", *load, *BATCHES, "--duration", "1h", "--json", path]
    done = inferload_here(*words)
    assert done.returncode == 3
    assert "was killed by SIGKILL" in done.stderr
    result = whole(path)
    (process,) = result.processes
    assert result.log.finished_ns.max() / 1e9 <= process.ending.after_s


FULL_DISK = """
import sys, torch, inferload as il, inferload.log.ring, inferload.callers.native.executor as n
import inferload.callers.python.run as t
inferload.log.ring.GROWTH_ROWS = n.GROWTH_ROWS = t.GROWTH_ROWS = 1024
class NoOp(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x
model = NoOp() if sys.argv[1] == "threads" else torch.jit.script(NoOp())
load = il.ClosedLoop(clients=32, callers=2)
result = il.run(model, [torch.zeros(1, 2)], load=load, batching=il.Batching(max_batch=8),
                duration_s=60, executor=sys.argv[1])
print([one.code for one in result.warnings], len(result.log), result.status)
result.save(sys.argv[2])
"""


@pytest.mark.parametrize("executor", ["threads", pytest.param("native", marks=pytest.mark.native)])
@pytest.mark.skipif(not may_mount(), reason="needs user namespaces, to mount a tiny disk")
def test_a_disk_that_fills_up_ends_the_run_and_keeps_its_batches(executor, tmp_path):
    if executor == "native":
        native_extension()  # a compiler wants more than that disk has
    script, disk, saved = tmp_path / "script.py", tmp_path / "disk", tmp_path / "r.json"
    script.write_text(FULL_DISK)
    disk.mkdir()
    run = (
        f"mount -t tmpfs -o size=400k tmpfs {disk} && "
        f"TMPDIR={disk} {sys.executable} -W ignore {script} {executor} {saved}"
    )
    words = ["unshare", "--mount", "--map-root-user", "sh", "-c", run]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "'disk-full'" in done.stdout
    check_rows(il.load_result(saved).log, 8)


def test_a_terminal_of_ascii_shows_batches_in_ascii(model, tmp_path):
    words = ["run", f"{model}:steady", *OPEN, *BATCHES, "--calls", "200", "--no-isolate"]
    done = inferload(*words, cwd=tmp_path, PYTHONIOENCODING="ascii", LC_ALL="C")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ *\d requests? +#+", done.stdout, re.MULTILINE)
    assert done.stdout.isascii()


def test_a_run_of_batches_ends_when_it_is_precise(model):
    result = il.run(
        torch.nn.Identity(),
        [torch.ones(1, 2)],
        load=il.OpenLoop.poisson(rate_per_s=2000, callers=1),
        batching=il.Batching(max_batch=8, max_delay_s=0.001),
        precision=0.5,
        quantile="p90",
        time_limit_s=300.0,
        threads_per_call=1,
    )
    assert result.summary.from_s + result.summary.duration_s < 250
    assert "until p90 is within 50%" in str(result)
    check_rows(result.log, 8)


def test_a_run_file_has_batches_and_clients(model, tmp_path):
    file, saved = tmp_path / "batches.toml", tmp_path / "r.json"
    file.write_text(
        'model = "mine.py:steady"\nclients = 12\ncallers = 2\nthink = "constant:1ms"\n'
        'max_batch = 8\nmax_delay = "2ms"\nbatch_pad = "0"\nbatch_sizes_allowed = [1, 2, 4, 8]\n'
        "calls = 200\nisolate = false\n"
    )
    done = inferload_here("run", file, "--json", saved)
    assert done.returncode == 0, done.stderr
    result = whole(saved)
    spec = result.spec
    assert (spec.batching.max_batch, spec.batching.max_delay_s) == (8, 0.002)
    assert (spec.batching.pad, spec.batching.sizes_allowed) == ({"*": 0.0}, (1, 2, 4, 8))
    assert (spec.clients, spec.callers, spec.think_s) == (12, 2, 0.001)
    assert result.summary.completed_calls == 200
