"""The whole way: torchrun, ranks, their models, one result."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

import inferload as il
from support.forks import Forked
from support.gates import PATIENCE_S, until
from support.program import IMPATIENT

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.cluster, pytest.mark.multiprocess]

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


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MODEL)
    return path


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


def test_ranks_make_all_calls_together_and_the_first_reports_them(model, tmp_path):
    path = tmp_path / "r.json"
    words = ("--calls", 1003, "--warmup", 7, "--json", path)
    started = torchrun(f"{model}:counts", *words, TOLD=tmp_path)
    code, shown, said = ended(started)
    assert code == 0, said
    assert "Traceback" not in said
    result = il.load_result(path)
    assert result.status == "complete"
    assert (result.spec.ranks, result.spec.processes, result.spec.callers) == (4, 4, 4)
    assert result.spec.calls == len(result.log) == result.summary.completed_calls == 1003
    made = [int((tmp_path / str(rank)).read_text()) for rank in range(4)]
    # each rank's model counted its own calls: those of the log, and the warm-up
    assert [one.completed_calls + 7 for one in result.ranks] == made
    assert [int((result.log.process == rank).sum()) + 7 for rank in range(4)] == made
    assert sorted(one.completed_calls for one in result.ranks) == [250, 251, 251, 251]
    response = np.sort(result.log.response_ns)
    for q in (0.5, 0.9, 0.99):
        exact = response[int(np.ceil(round(q * 1003, 9))) - 1] / 1e6
        assert result.summary.response_ms.quantile(q) == exact
    assert shown.count("target Counts") == 1
    assert "4 ranks x 1 caller" in shown
    # all started together: none heard too late of the line
    assert {one.late_ms for one in result.ranks} == {0.0}
    assert {one.clock_error_ms for one in result.ranks} == {0.0}


def test_an_open_loop_is_dealt_to_all_processes_of_all_ranks(model, tmp_path):
    path = tmp_path / "r.json"
    words = ["--rate", 300, "--calls", 900, "--processes", 2, "--callers", 2, "--json", path]
    # started, not forked: what is dealt must not depend on the hash of a text
    code, shown, said = ended(torchrun(f"{model}:waits", *words, ranks=2, start=subprocess.Popen))
    assert code == 0, said
    result = il.load_result(path)
    assert (result.spec.ranks, result.spec.processes, result.spec.callers) == (2, 4, 8)
    due = il.OpenLoop.poisson(rate_per_s=300, seed=0).schedule(900, None).times_ns
    assert (result.log.scheduled_ns == due).all()
    assert set(result.log.process) == {0, 1, 2, 3}
    assert "2 ranks x 2 processes x 2 callers" in shown
    assert [one.process for one in result.processes] == [0, 1, 2, 3]


def test_a_rank_that_is_late_is_waited_for_and_one_that_is_slow_is_named(model, tmp_path):
    path = tmp_path / "r.json"
    started = torchrun(
        f"{model}:waits", "--duration", "2s", "--json", path, ranks=3, LATE=1, SLOW=2
    )
    code, shown, said = ended(started)
    assert code == 0, said
    assert "waiting for rank 1 (" in said
    result = il.load_result(path)
    assert max(one.start_late_ms for one in result.ranks) < 3000  # by which one was late
    (straggler,) = [one for one in result.warnings if one.code == "straggler"]
    assert straggler.message.startswith("rank 2 (")
    assert "straggler" in shown


def test_a_rank_that_is_killed_is_said_to_be_lost_and_the_others_are_kept(model, tmp_path):
    path = tmp_path / "r.json"
    started = torchrun(f"{model}:waits", "--duration", "60s", "--json", path)
    rank_process(started, until_calling(model, 4)[2]).kill()
    code, shown, said = ended(started)
    assert code != 0
    assert "was not heard of for 10 s" in said
    assert "exitcode : 3" in said  # of the first rank, as torchrun tells it
    result = il.load_result(path)
    assert result.status == "rank lost"
    assert [one.lost is None for one in result.ranks] == [True, True, False, True]
    assert all(one.completed_calls > 50 for one in result.ranks if one.rank != 2)
    assert set(result.log.process) == {0, 1, 3}
    assert "rank 2 (" in shown
    assert "rank-lost" in shown


def test_a_lost_first_rank_hangs_nobody_and_the_others_keep_their_calls(model, tmp_path):
    path = tmp_path / "r.json"
    words = ("--duration", "60s", "--json", path)
    started = torchrun(f"{model}:waits", *words, ranks=2, program=(IMPATIENT,))
    rank_process(started, until_calling(model, 2)[0]).kill()
    code, _, said = ended(started)
    assert code != 0
    assert "rank 1: rank 0 was not heard of for " in said
    kept = il.load_result(tmp_path / "r.rank1.json")
    assert kept.summary.completed_calls > 50
    assert not path.exists()


def test_a_model_that_raises_on_one_rank_ends_the_run_of_all(model, tmp_path):
    path = tmp_path / "r.json"
    words = ["--duration", "60s", "--warmup", 0, "--json", path]
    code, _, said = ended(torchrun(f"{model}:waits", *words, ranks=2, FAILS=1))
    assert code != 0
    assert "raised in caller 0 of rank 1 (" in said
    assert "ValueError: rank 1 has had enough" in said
    assert "exitcode : 1" in said
    result = il.load_result(path)
    assert result.status == "failed"
    assert result.ranks[1].failed_calls == 1
    assert result.summary.duration_s < 50  # of 60


def test_a_model_that_ends_its_process_on_one_rank_is_named_by_rank(model, tmp_path):
    (tmp_path / "ones.py").write_text(MODEL.replace("torch.zeros(2)", "torch.ones(2)"))
    path = tmp_path / "r.json"
    words = ["--duration", "60s", "--warmup", 0, "--json", path]
    code, _, said = ended(torchrun(f"{tmp_path / 'ones.py'}:waits", *words, ranks=2, DIES=1))
    assert code != 0
    assert "in rank 1 (" in said
    assert "SIGABRT" in said
    assert "exitcode : 3" in said
    assert il.load_result(path).status == "crashed"


def test_a_call_that_hangs_on_one_rank_ends_the_run_of_all(model, tmp_path):
    (tmp_path / "ones.py").write_text(MODEL.replace("torch.zeros(2)", "torch.ones(2)"))
    path = tmp_path / "r.json"
    words = ["--duration", "60s", "--warmup", 0, "--timeout", "3s", "--json", path]
    code, _, said = ended(torchrun(f"{tmp_path / 'ones.py'}:waits", *words, ranks=2, HANGS=1))
    assert code != 0
    assert "had not returned to caller 0 of rank 1 (" in said
    assert "from input 1 after 3 s" in said
    result = il.load_result(path)
    assert result.status == "timed out"
    assert result.summary.duration_s < 50  # of 60


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["gone.py"], "error: there is no model file gone.py"),
        (["MODEL", "--callers", "0"], "callers"),
        (["MODEL", "--precision", "2%"], "no rank of a cluster sees the calls of the others"),
        (["MODEL", "--calls", "1"], "1 calls are fewer than 2 processes on 2 ranks"),
        (["MODEL", "--trace", "t.json"], "a trace is of one process, and there are 2 ranks"),
    ],
)
def test_wrong_use_is_said_once(words, sentence, model):
    given = [f"{model}:waits" if word == "MODEL" else word for word in words]
    code, shown, said = ended(torchrun(*given, ranks=2))
    assert code != 0
    assert said.count(sentence) == 1
    assert said.count("error: ") == 1
    assert "exitcode : 2" in said
    assert shown == ""


def test_what_only_another_rank_is_refused_by_is_said_with_its_name(model, tmp_path):
    text = MODEL + "\n\nif RANK == '1':\n    raise RuntimeError('no such library here')\n"
    (tmp_path / "half.py").write_text(text)
    code, _, said = ended(torchrun(f"{tmp_path / 'half.py'}:waits", ranks=2))
    assert code != 0
    assert "error: rank 1 (" in said
    assert "no such library here" in said
    assert "exitcode : 2" in said


def test_an_interrupt_ends_all_ranks_and_keeps_their_calls(model, tmp_path):
    path = tmp_path / "r.json"
    started = torchrun(f"{model}:waits", "--duration", "60s", "--json", path, ranks=2)
    until_calling(model, 2)
    os.killpg(started.pid, signal.SIGINT)  # as a terminal sends it: to all of them
    code, _, said = ended(started)
    assert code != 0
    assert "ended the run after" in said
    result = il.load_result(path)
    assert result.status == "interrupted"
    assert all(one.completed_calls > 50 for one in result.ranks)


def test_ranks_with_inputs_of_their_own_are_refused(model, tmp_path):
    text = MODEL.replace("return [torch.zeros(1), torch.zeros(2)]", "return [torch.zeros(1)] * N")
    path = tmp_path / "shards.py"
    path.write_text(text.replace("RANK = ", 'N = 1 + int(os.environ["RANK"])\nRANK = ', 1))
    code, _, said = ended(torchrun(f"{path}:waits", ranks=2))
    assert code != 0
    assert "error: rank 1 (" in said
    assert "has inputs ['1:float32', '1:float32'], and rank 0 has ['1:float32']" in said
    assert "exitcode : 2" in said


def test_an_interrupt_before_the_start_leaves_no_report(model, tmp_path):
    path = tmp_path / "r.json"
    started = torchrun(f"{model}:waits", "--json", path, ranks=2, LATE=1, LATE_S=600)
    until_said(started, "waiting for rank 1 (")
    os.killpg(started.pid, signal.SIGINT)
    code, shown, said = ended(started)
    assert code != 0
    assert "there is no result" in said
    assert "rank-lost" not in shown
    assert not path.exists()


def by_hand(
    rank: int,
    ranks: int,
    port: int,
    *words: object,
    program: tuple[str, ...] = ("-m", "inferload"),
    **variables: str,
) -> subprocess.Popen[str]:
    """A rank as some operators start them: without torchrun."""
    own = {"RANK": str(rank), "WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1"}
    own["COLUMNS"] = "200"  # sentences stay on their line
    return Forked(
        [sys.executable, *program, "run", *map(str, words)],
        env=os.environ | own | {"MASTER_PORT": str(port)} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_ranks_find_each_other_without_an_agent(model, tmp_path):
    path, port = tmp_path / "r.json", free_port()
    started = [
        by_hand(rank, 2, port, f"{model}:waits", "--calls", 100, "--json", path)
        for rank in range(2)
    ]
    said = [one.communicate(timeout=120)[1] for one in started]
    assert [one.returncode for one in started] == [0, 0], said
    assert len(il.load_result(path).log) == 100
    assert said[1] == ""


KEEPS_THE_STORE = """
import sys
from torch.distributed import TCPStore
store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
print(store.port, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def keeper() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that keeps the store, as torchrun's agent does, and its port."""
    with subprocess.Popen(
        [sys.executable, "-c", KEEPS_THE_STORE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as found:
        yield found, int(found.stdout.readline())
        found.kill()


AGENT = {"TORCHELASTIC_USE_AGENT_STORE": "True"}


def test_a_store_that_is_lost_loses_no_rank_its_own_calls(keeper, model, tmp_path):
    path = tmp_path / "r.json"
    process, port = keeper
    words = (f"{model}:waits", "--duration", "5s", "--json", path)
    started = [by_hand(rank, 2, port, *words, **AGENT) for rank in range(2)]
    until_calling(model, 2)
    process.kill()
    said = [one.communicate(timeout=120)[1] for one in started]
    assert [one.returncode for one in started] == [3, 3], said
    result = il.load_result(path)
    assert result.status == "rank lost"
    assert result.ranks[0].completed_calls > 50
    assert "could not be heard" in result.ranks[1].lost
    kept = il.load_result(tmp_path / "r.rank1.json")
    assert kept.summary.completed_calls > 50


def test_a_first_rank_that_is_lost_before_the_start_is_not_waited_for(keeper, model, tmp_path):
    _, port = keeper
    words = (f"{model}:waits", "--duration", "5s", "--json", tmp_path / "r.json")
    # the first rank is late, and killed while the other one stands at the line
    late = AGENT | {"LATE": "0"}
    started = [by_hand(rank, 2, port, *words, program=(IMPATIENT,), **late) for rank in range(2)]
    for line in started[0].stderr:
        if "loading" in line:
            break
    started[0].kill()
    _, said = started[1].communicate(timeout=PATIENCE_S)
    assert started[1].returncode == 3
    assert "rank 1: rank 0 was not heard of for " in said
    assert "the run had not begun" in said
    assert not list(tmp_path.glob("*.json"))
    started[0].communicate()


@pytest.mark.parametrize(("rank", "waits_for"), [(0, "rank 1"), (1, "the store")])
def test_a_rank_left_alone_says_whom_it_waits_for_and_can_be_interrupted(rank, waits_for, model):
    # RANK and WORLD_SIZE may also have been left over in a shell
    agent = AGENT if rank else {}
    words = (rank, 2, free_port(), f"{model}:waits")
    with by_hand(*words, program=(IMPATIENT,), **agent) as started:
        try:
            line = next(line for line in started.stderr if f"waiting for {waits_for}" in line)
            assert "unset RANK and WORLD_SIZE" in line
            started.send_signal(signal.SIGINT)
            shown, said = started.communicate(timeout=PATIENCE_S)
        finally:
            started.kill()
    assert started.returncode == 130
    assert "interrupted: there is no result" in said
    assert shown == ""
