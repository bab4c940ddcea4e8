"""Ranks that are started one by one: without an agent, or with a store or a rank that is lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import inferload as il
from support.forks import Forked
from support.gates import PATIENCE_S
from support.program import IMPATIENT
from support.rank_programs import MODEL, until_calling

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.cluster, pytest.mark.multiprocess]


KEEPS_THE_STORE = """
import sys
from torch.distributed import TCPStore
store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
print(store.port, flush=True)
sys.stdin.read()
"""
AGENT = {"TORCHELASTIC_USE_AGENT_STORE": "True"}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MODEL)
    return path


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
