"""Servers that are killed, silent or cut off while they are asked: every call is accounted for."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

import inferload as il
from inferload.stats.stopping import StopByPrecision
from support.forks import Forked
from support.gates import ENDLESS, PATIENCE_S, until
from support.network import linked
from support.program import IMPATIENT, inferload_here
from support.server_process import ServerProcess

INPUTS = ["text:1 x1"]
# What becomes of requests to a process that was killed: those under way, and those that come after.
# ConnectionFailed: the listener closes while a connection is on its way to it, which is reset then
OF_THE_DEAD = {"ConnectionReset", "Disconnected", "ConnectionRefused", "ConnectionFailed"}
AT_RATE = il.OpenLoop.constant(rate_per_s=100, callers=2)
CLOSED = il.ClosedLoop(callers=4)


@pytest.fixture
def server(tmp_path):
    found = ServerProcess(tmp_path / "server.log")
    yield found
    found.stop()


def accounted_for(result: il.RunResult, calls: int) -> None:
    """So many calls, each completed or failed by the death of the server."""
    assert result.status == "complete"
    assert len(result.log) == calls
    failed = {one.type: one.calls for one in result.failures}
    assert result.summary.completed_calls + sum(failed.values()) == calls
    assert result.summary.completed_calls > 0
    assert set(failed) <= OF_THE_DEAD
    assert failed["ConnectionRefused"] > 0


@pytest.mark.parametrize(
    ("load", "end", "calls"),
    [(CLOSED, {"calls": 400}, 400), (AT_RATE, {"duration_s": 1.0}, 100)],
    ids=["closed", "open"],
)
def test_a_server_that_is_killed_fails_the_calls_from_then_on(load, end, calls, server):
    server.start("dies-at", 50)
    result = il.run(server.url, INPUTS, load=load, warmup_calls=0, timeout_s=60, **end)
    accounted_for(result, calls)
    assert result.summary.completed_calls <= 49


@pytest.mark.multiprocess
@pytest.mark.parametrize(
    ("words", "calls"),
    [
        (["--callers", 2, "--calls", 400], 400),
        (["--rate", 100, "--arrivals", "constant", "--duration", "1s"], 100),
    ],
    ids=["closed", "open"],
)
def test_of_all_processes_of_the_program_and_its_result_is_saved(words, calls, server, tmp_path):
    server.start("dies-at", 50)
    path = tmp_path / "r.json"
    given = ["--inputs", *INPUTS, "--warmup", 0, "--processes", 2, "--timeout", "60s", *words]
    done = inferload_here("run", server.url, *given, "--json", path)
    assert done.returncode == 1, done.stderr
    assert "ConnectionRefused" in done.stdout
    result = il.load_result(path)
    accounted_for(result, calls)
    assert set(result.log.process.tolist()) == {0, 1}


@pytest.mark.parametrize("load", [CLOSED, AT_RATE], ids=["closed", "open"])
def test_calls_succeed_again_when_another_server_listens_at_the_port(load, server, monkeypatch):
    monkeypatch.setattr(StopByPrecision, "enough", lambda self, log, finished: _recovered(log))
    server.start("dies-at", 50)
    with server.back_after_its_end():
        result = il.run(server.url, INPUTS, load=load, warmup_calls=0, timeout_s=60, **ENDLESS)
    accounted_for(result, len(result.log))
    assert _recovered(result.log)
    assert server.taken > 0


def _recovered(log) -> bool:
    """Whether calls failed, and none of the last ones."""
    failed = log.finished_ns[log.error >= 0]
    completed = log.finished_ns[log.completed]
    return bool(len(failed)) and int((completed > failed.max()).sum()) >= 20


def started(*words: object, within=()) -> subprocess.Popen[str]:
    process = Forked(
        [*within, sys.executable, IMPATIENT, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # a program that never ends must fail its test
    limit = threading.Timer(PATIENCE_S, process.kill)
    limit.daemon = True
    limit.start()
    return process


def interrupted(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Send one Ctrl-C; the exit code, what was printed and said; no process may be left."""
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    shown, said = process.communicate(timeout=PATIENCE_S)
    _, alive = psutil.wait_procs(family, timeout=PATIENCE_S)
    assert not alive
    return process.returncode, shown, said


@pytest.mark.multiprocess
@pytest.mark.parametrize(
    ("way", "processes"), [("--isolate", 1), ("--no-isolate", 1), ("--processes=2", 2)]
)
def test_one_ctrl_c_ends_a_run_whose_server_says_nothing_and_saves_it(
    way, processes, server, tmp_path
):
    server.start("silent-from", 30)
    path = tmp_path / "r.json"
    words = ["--inputs", *INPUTS, "--duration", "1h", "--warmup", 0, "--json", path, way]
    with started("run", server.url, *words) as process:
        until(lambda: server.taken == 29 + processes)  # each has a caller that waits
        code, _, said = interrupted(process)
    assert code == 130, said
    assert "SIGINT ended the run after" in said
    assert "Traceback" not in said
    result = il.load_result(path)
    assert result.status == "interrupted"
    assert result.summary.completed_calls == 29 - processes  # each sends one before the run
    assert len(result.log) == result.summary.completed_calls
    (given_up,) = [one for one in result.warnings if one.code == "calls-given-up"]
    assert given_up.message.startswith(f"{processes} started call")


@pytest.mark.multiprocess
def test_and_one_whose_first_request_has_no_answer(server):
    server.start("silent-from", 1)
    with started("run", server.url, "--inputs", *INPUTS, "--calls", 10) as process:
        until(lambda: server.taken >= 1)
        code, _, said = interrupted(process)
    assert code == 130, said
    assert "Traceback" not in said


@pytest.mark.multiprocess
def test_calls_over_a_link_that_is_taken_away_time_out_and_succeed_when_it_is_back(tmp_path):
    path = tmp_path / "r.json"
    with linked() as link:
        server = ServerProcess(tmp_path / "server.log", host=link.address, within=link.server)
        words = ["--inputs", *INPUTS, "--rate", 50, "--arrivals", "constant", "--callers", 4]
        words += ["--duration", "1h", "--warmup", 0, "--timeout", "500ms", "--json", path]
        try:
            server.start()
            with started("run", server.url, *words, within=link.client) as process:
                until(lambda: server.taken >= 30)
                link.set("down")
                time.sleep(1.5)  # so that calls time out in the meanwhile
                link.set("up")
                before = server.taken
                until(lambda: server.taken >= before + 30)
                code, _, said = interrupted(process)
        finally:
            server.stop()
    assert code == 130, said
    result = il.load_result(path)
    log, failed = result.log, result.log.error >= 0
    assert {one.type for one in result.failures} == {"TimedOut"}
    assert len(log) == result.summary.completed_calls + failed.sum()
    first = log.finished_ns[failed].min()
    assert (log.finished_ns[log.completed] > first).sum() >= 20
