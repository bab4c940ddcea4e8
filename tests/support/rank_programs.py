"""A model that knows its rank, and programs that run it: by torchrun, and waited for."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from support.forks import Forked
from support.gates import until

MODEL = """
import atexit
import os
import time
from pathlib import Path

import torch

RANK = os.environ["RANK"]


class Counts(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0
        atexit.register(self.tell)

    def tell(self):
        Path(os.environ["TOLD"], RANK).write_text(str(self.calls))

    def forward(self, x):
        self.calls += 1
        time.sleep(0.001)
        return x


class Waits(torch.nn.Module):
    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds
        self.calls = 0

    def forward(self, x):
        time.sleep(self.seconds)
        self.calls += 1
        if self.calls == 70:
            Path(f"{__file__}.calls.{RANK}").write_text(str(os.getpid()))
        if RANK == os.environ.get("HANGS") and bool(x.sum() > 0):
            time.sleep(1000)
        if RANK == os.environ.get("FAILS"):
            raise ValueError("rank " + RANK + " has had enough")
        if RANK == os.environ.get("DIES") and bool(x.sum() > 0):
            os.abort()
        return x


def counts():
    return Counts()


def waits():
    if RANK == os.environ.get("LATE"):
        time.sleep(float(os.environ.get("LATE_S", "3")))
    return Waits(0.05 if RANK == os.environ.get("SLOW") else 0.002)


def inputs():
    return [torch.zeros(1), torch.zeros(2)]
"""


def torchrun(
    *words: object,
    ranks: int = 4,
    program: tuple[str, ...] = ("-m", "inferload"),
    start: type[subprocess.Popen[str]] = Forked,
    **variables: object,
) -> subprocess.Popen[str]:
    return start(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks)),
            *(*program, "run", *map(str, words)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {name: str(value) for name, value in variables.items()},
    )


def ended(started: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        shown, said = started.communicate(timeout=120)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
    return started.returncode, " ".join(shown.split()), " ".join(said.split())


def until_calling(model: Path, ranks: int) -> list[psutil.Process]:
    """Who calls in each rank, when each has made 70 calls, no more than ten of them to warm up."""
    told = [Path(f"{model}.calls.{rank}") for rank in range(ranks)]
    until(lambda: all(one.exists() and one.read_text() for one in told))
    return [psutil.Process(int(one.read_text())) for one in told]


def rank_process(of: subprocess.Popen[str], caller: psutil.Process) -> psutil.Process:
    """The process that torchrun started in which something calls, or above that."""
    return next(one for one in (caller, *caller.parents()) if one.ppid() == of.pid)


def until_said(started: subprocess.Popen[str], words: str) -> None:
    """Wait until something is said."""
    assert any(words in line for line in started.stderr)
