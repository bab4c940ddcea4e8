"""What ranks say to each other: through a real store, in threads of this process."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest
from torch.distributed import PrefixStore, TCPStore

from inferload import errors
from inferload.records.endings import TargetCrashed
from inferload.runs.cluster import crew as rank_crew
from inferload.runs.cluster import members as module
from inferload.runs.cluster.clock import answer_time, ask_offset, clock_name
from inferload.runs.cluster.crew import FirstRank
from inferload.runs.cluster.launch import Launch, launch_of
from inferload.runs.cluster.link import CHUNK_BYTES, Link, StoreLostError, Waits
from inferload.runs.cluster.members import Member, Members, error_of
from support.gates import until

TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "10.1.2.3",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "TORCHELASTIC_RESTART_COUNT": "1",
}


USUAL = Waits()


@pytest.fixture
def server() -> TCPStore:
    return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def link_to(server: TCPStore, rank: int, ranks: int = 2, waits: Waits = USUAL) -> Link:
    def connect() -> PrefixStore:
        store = TCPStore(
            "127.0.0.1",
            server.port,
            is_master=False,
            wait_for_workers=False,
            timeout=timedelta(seconds=60),
        )
        return PrefixStore("test", store)

    return Link(rank, ranks, connect, waits)


def member(rank: int, clock: str = "a clock") -> Member:
    return Member(rank=rank, host=f"host{rank}", clock=clock, pid=rank)


def test_a_rank_is_what_torchrun_says():
    assert launch_of(TORCHRUN) == Launch(
        rank=3,
        ranks=8,
        local_rank=1,
        local_ranks=2,
        address="10.1.2.3",
        port=29500,
        agent_store=True,
        attempt=1,
    )
    bare = {name: TORCHRUN[name] for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")}
    found = launch_of(bare)
    assert (found.local_rank, found.local_ranks, found.agent_store) == (0, 1, False)


def test_one_rank_alone_or_half_an_environment_is_no_cluster():
    assert launch_of({}) is None
    assert launch_of({**TORCHRUN, "WORLD_SIZE": "1"}) is None
    assert launch_of({name: text for name, text in TORCHRUN.items() if name != "RANK"}) is None


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("RANK", "8", "RANK=8 is none of WORLD_SIZE=8 ranks"),
        ("WORLD_SIZE", "many", "WORLD_SIZE='many' in the environment is no number"),
        ("MASTER_PORT", "", "MASTER_PORT='' in the environment is no number"),
    ],
)
def test_an_environment_that_makes_no_sense_is_refused(name, text, sentence):
    with pytest.raises(errors.PlanError, match=sentence):
        launch_of({**TORCHRUN, name: text})


def test_large_values_arrive_whole_and_leave_the_store(server):
    with link_to(server, 0) as first, link_to(server, 1) as second:
        content = bytes(range(256)) * (2 * CHUNK_BYTES // 256) + b"the rest"
        assert first.received("result/1") is None
        second.send("result/1", content)
        assert first.has_sent("result/1")
        assert first.received("result/1") == content
        assert first.heard("result/1/0") is None


def test_a_wish_to_stop_reaches_every_rank(server):
    with link_to(server, 0) as first, link_to(server, 1) as second:
        assert not first.stop_asked
        second.ask_stop()
        until(lambda: first.stop_asked)


KEEPS_A_STORE = """
import sys, time
from torch.distributed import TCPStore
store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
print(store.port, flush=True)
sys.stdin.read()
"""


def test_a_store_that_is_gone_is_said_in_a_sentence():
    with subprocess.Popen(
        [sys.executable, "-c", KEEPS_A_STORE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as keeper:
        store = TCPStore(
            "127.0.0.1", int(keeper.stdout.readline()), is_master=False, wait_for_workers=False
        )
        link = Link(0, 1, lambda: store)
        assert link.heard("nothing") is None
        keeper.kill()
        keeper.wait()
        with pytest.raises(StoreLostError, match="the store of the cluster cannot be reached"):
            link.heard("nothing")


def test_the_clock_of_another_machine_is_found_within_its_bound(server):
    # another machine whose clock is ahead by a million seconds: here the answer is known
    ahead_ns = 10**15 + 12_345
    asker, answerer = link_to(server, 0), link_to(server, 1)

    def other_now() -> int:
        return time.perf_counter_ns() + ahead_ns

    thread = threading.Thread(target=answer_time, args=(answerer, other_now))
    thread.start()
    found = ask_offset(asker, 1, time.perf_counter_ns)
    thread.join()
    assert abs(found.ahead_ns - ahead_ns) <= found.error_ns
    assert 0 < found.error_ns < ahead_ns
    assert clock_name() == clock_name()


def test_a_rank_that_does_not_answer_has_no_clock(server, monkeypatch):
    monkeypatch.setattr("inferload.runs.cluster.clock.ANSWER_S", 0.05)
    assert ask_offset(link_to(server, 0), 1, time.perf_counter_ns) is None


class Passing:
    """Time that only the test lets pass."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def passing(monkeypatch) -> Passing:
    found = Passing()
    monkeypatch.setattr(module, "time", found)
    monkeypatch.setattr(rank_crew, "time", found)
    return found


def looked_for(members: Members, passing: Passing, seconds: int) -> None:
    for _ in range(seconds):
        members.look()
        passing.now_s += 1
    members.look()


def test_a_rank_is_lost_when_it_was_not_heard_of_for_too_long(server, passing):
    first, second = link_to(server, 0, 4), link_to(server, 1, 4)
    second.say("hello/1", json.dumps({"rank": 1, "host": "b", "clock": "c", "pid": 1}).encode())
    second.count("beat/1", 1)
    second.count("beat/3", 1)
    second.send("result/3", b"rank 3 has ended well")
    members = Members(first, member(0))
    looked_for(members, passing, int(first.waits.lost_s) - 1)
    assert members.lost == {}
    looked_for(members, passing, 1 + int(first.waits.look_s))
    assert list(members.lost) == [1]
    assert members.name(1) == "rank 1 (b)"
    assert re.fullmatch(r"was not heard of for 1[0-2] s", members.lost[1])
    looked_for(members, passing, int(first.waits.join_s))
    assert members.lost[2] == "was never heard of"
    assert 3 not in members.lost
    assert list(members.others) == [3]


def test_a_rank_that_is_heard_of_is_not_lost(server, passing):
    first, second = link_to(server, 0), link_to(server, 1)
    members = Members(first, member(0))
    for _ in range(10):
        second.count("beat/1", 1)
        looked_for(members, passing, 6)
    assert members.lost == {}


def test_all_are_ready_when_each_is_at_the_line_or_lost(server):
    first, second = link_to(server, 0, 3), link_to(server, 1, 3)
    members = Members(first, member(0))
    for link in (first, second):
        link.say(f"ready/{link.rank}")
        link.count("ready", 1)
    assert not members.all_ready()
    assert members.not_ready() == [2]
    said: list[str] = []

    class Observer:
        stage = said.append

    members.announce_missing(Observer())
    members.announce_missing(Observer())
    (once,) = said
    assert once.startswith("waiting for rank 2, never heard of yet")
    assert "unset RANK and WORLD_SIZE" in once
    members.lost[2] = "was never heard of"
    assert members.all_ready()


def test_what_another_rank_was_refused_by_is_raised_with_its_name(server):
    first, second = link_to(server, 0), link_to(server, 1)
    members = Members(first, member(0))
    members.raise_errors()
    second.say("error/1", json.dumps(["PlanError", "there is no model file"]).encode())
    second.count("errors", 1)
    with pytest.raises(errors.PlanError, match="rank 1: there is no model file"):
        members.all_ready()
    assert isinstance(error_of("TargetCrashed", "x"), TargetCrashed)
    assert type(error_of("SomethingElse", "x")) is errors.InferloadError


def test_ranks_with_other_options_or_inputs_are_refused_by_name(server):
    first, second = link_to(server, 0), link_to(server, 1)
    members = Members(first, member(0))
    second.say("ready/1", json.dumps({"inputs": ["1:float32"], "callers": 1}).encode())
    assert second.heard("ready/1") is not None
    members.check_alike({"inputs": ["1:float32"], "callers": 1})
    with pytest.raises(errors.PlanError, match="rank 1 has callers 1, and rank 0 has 2: all ranks"):
        members.check_alike({"inputs": ["1:float32"], "callers": 2})


def test_the_first_rank_is_lost_when_its_beats_end(server, passing):
    first, second = link_to(server, 0), link_to(server, 1)
    seen = FirstRank(second)
    for _ in range(5):
        first.count("beat/0", 1)
        assert seen.lost() is None
        passing.now_s += second.waits.lost_s - 1
    assert seen.lost() is None
    passing.now_s += 2
    assert seen.lost() == "was not heard of for 11 s"


def test_one_rank_of_each_other_clock_is_asked_what_time_it_is(server):
    first, second = link_to(server, 0, 4), link_to(server, 2, 4)
    members = Members(first, member(0, "here"))
    for rank, clock in ((1, "here"), (2, "there"), (3, "there")):
        second.say(f"hello/{rank}", json.dumps({**vars_of(member(rank, clock))}).encode())
    thread = threading.Thread(target=answer_time, args=(second, time.perf_counter_ns))
    thread.start()
    members.ask_clocks(time.perf_counter_ns)
    thread.join()
    assert set(members.offsets) == {"here", "there"}
    assert members.offsets["here"].error_ns == 0
    assert abs(members.offsets["there"].ahead_ns) <= members.offsets["there"].error_ns


def vars_of(one: Member) -> dict[str, object]:
    return {name: getattr(one, name) for name in ("rank", "host", "clock", "pid")}
