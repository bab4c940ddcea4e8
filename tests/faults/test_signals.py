"""Signals: one is enough, whatever a call does, and none of them loses what was measured."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import torch

import inferload as il
from inferload.signals import ENDING, PutOff, StopSignals
from support.forks import Forked
from support.gates import PATIENCE_S
from support.program import IMPATIENT, PROGRAM

if TYPE_CHECKING:
    from collections.abc import Sequence

MODEL = """
import sys, time, torch
def say():  # in one piece: several processes say so to one pipe, and may be unbuffered
    sys.stdout.write("hanging\\n")
    sys.stdout.flush()
class Hangs(torch.nn.Module):
    def __init__(self, at, seconds=10_000):
        super().__init__()
        self.at, self.seconds, self.made = at, seconds, 0
    def forward(self, x):
        self.made += 1
        if self.made == self.at:
            say()
            time.sleep(self.seconds)
        time.sleep(0.002)
        return x
hangs, early, steady, told = Hangs(50), Hangs(3), Hangs(0), Hangs(50, 0)
def slow():
    say()
    time.sleep(10_000)
def inputs():
    return [torch.ones(1)]
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MODEL)
    return path


def started(
    *words: object, program: Sequence[str] = (sys.executable, IMPATIENT), **options: object
) -> subprocess.Popen[str]:
    process = Forked(
        [*program, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    # a test that reads what is never printed must fail, and not wait for ever
    limit = threading.Timer(120, process.kill)
    limit.daemon = True
    limit.start()
    return process


def ended_by(process: subprocess.Popen[str], number: int) -> tuple[int, str, str]:
    """Send one signal; the exit code, what was printed and said; no process may be left."""
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    shown, said = process.communicate(timeout=120)
    _, alive = psutil.wait_procs(family, timeout=PATIENCE_S)
    assert not alive
    return process.returncode, shown, said


@pytest.mark.multiprocess
@pytest.mark.parametrize(
    ("number", "way"),
    [
        (signal.SIGTERM, "--isolate"),
        (signal.SIGHUP, "--processes=2"),
        (signal.SIGINT, "--no-isolate"),
        (signal.SIGHUP, "--no-isolate"),
    ],
)
def test_one_signal_gives_up_a_call_that_hangs_and_saves_the_rest(number, way, model, tmp_path):
    path = tmp_path / "r.json"
    words = ["run", f"{model}:hangs", "--duration", "1h", "--warmup", 5, "--json", path, way]
    # one of them with the patience that users have
    more = {"program": PROGRAM} if number == signal.SIGTERM else {}
    with started(*words, **more) as process:
        assert process.stdout.readline() == "hanging\n"
        code, shown, said = ended_by(process, number)
    assert code == 130
    assert f"{number.name} ended the run after" in said
    assert "calls-given-up" in shown
    result = il.load_result(path)
    assert result.status == "interrupted"
    assert result.summary.completed_calls >= 44


@pytest.mark.multiprocess
@pytest.mark.parametrize(
    ("name", "way"),
    [("early", "--isolate"), ("early", "--no-isolate"), ("slow", "--isolate")],
)
def test_one_signal_ends_a_run_that_warms_up_or_loads(name, way, model):
    with started("run", f"{model}:{name}", "--duration", "1h", way) as process:
        assert process.stdout.readline() == "hanging\n"
        code, _, said = ended_by(process, signal.SIGTERM)
    assert code == 130
    assert "Traceback" not in said


@pytest.mark.multiprocess
def test_one_signal_ends_a_study_whose_call_hangs(model):
    words = ["--callers", "1,2", "--blocks", 1, "--duration", "1h"]
    with started("sweep", f"{model}:hangs", *words) as process:
        assert process.stdout.readline() == "hanging\n"
        code, _, said = ended_by(process, signal.SIGHUP)
    assert code == 130
    assert "interrupted after 0 of 2 runs" in said


@pytest.mark.multiprocess
def test_a_hangup_that_is_ignored_stays_ignored(model):
    def nohup() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    words = ["run", f"{model}:steady", "--calls", 300]
    with started(*words, preexec_fn=nohup) as process:
        for line in process.stderr:
            if "warming up" in line:
                break
        for one in psutil.Process(process.pid).children(recursive=True):
            one.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=120)
    assert process.returncode == 0


@pytest.mark.multiprocess
def test_a_signal_that_every_process_gets_is_no_crash(model, tmp_path):
    path = tmp_path / "r.json"
    words = ["run", f"{model}:told", "--duration", "1h", "--json", path]
    with started(*words) as process:
        assert process.stdout.readline() == "hanging\n"  # its 50th call does, for a moment
        for one in psutil.Process(process.pid).children(recursive=True):
            if "orders.follow" in " ".join(one.cmdline()):  # as systemd and batch systems send it
                one.send_signal(signal.SIGTERM)
        code, _, _ = ended_by(process, signal.SIGTERM)
    assert code == 130
    assert il.load_result(path).summary.completed_calls > 0


def test_a_process_that_is_forked_while_we_hear_signals_has_the_handlers_of_before():
    before = [signal.getsignal(number) for number in ENDING]
    with StopSignals(), PutOff():
        assert [signal.getsignal(number) for number in ENDING] != before
        pid = os.fork()
        if not pid:
            os._exit([signal.getsignal(number) for number in ENDING] != before)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert [signal.getsignal(number) for number in ENDING] == before


def test_a_model_forks_pools_while_it_is_called_in_this_process():
    def forks(x):
        pid = os.fork()
        if not pid:
            time.sleep(60)
            os._exit(99)  # it would go on as this process, and end its own group
        os.kill(pid, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM

    result = il.run(forks, [torch.ones(1)], calls=3, warmup_calls=1)
    assert result.summary.completed_calls == 3


def test_no_signal_is_lost_or_raised_between_a_run_and_what_follows_it():
    then = PutOff()
    with StopSignals(then=then) as stop:
        signal.raise_signal(signal.SIGINT)
    assert stop.received == ["SIGINT"]
    signal.raise_signal(signal.SIGTERM)  # while the result is saved
    assert then.came == signal.SIGTERM
    then.drop()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_handlers_that_a_program_sets_within_are_its_own_in_a_fork():
    def own(number, frame):
        pass

    before = signal.getsignal(signal.SIGTERM)
    with PutOff():
        signal.signal(signal.SIGTERM, own)
        pid = os.fork()
        if not pid:
            os._exit(signal.getsignal(signal.SIGTERM) is not own)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert signal.getsignal(signal.SIGTERM) == before


def test_slow_warm_up_is_told_and_bounded_unless_a_number_was_asked_for(monkeypatch):
    monkeypatch.setattr("inferload.plan.options.WARMUP_S", 0.01)
    monkeypatch.setattr("inferload.runs.warming.FIRST_LOOK_S", 0.0)
    monkeypatch.setattr("inferload.runs.warming.LOOK_S", 0.0)
    said: list[str] = []
    told, made = threading.Event(), iter(range(100))

    class Says:
        def stage(self, text):
            said.append(text)
            if text.startswith("warming up 1 caller: 1 of 10 calls, "):
                told.set()

        def progress(self, finished_calls, elapsed_s):
            pass

    options = {"duration_s": 0.05, "observer": Says()}

    def slow(x):
        if next(made) == 1:  # the second call is made when it was said that there was one
            assert told.wait(PATIENCE_S)
        time.sleep(0.1)

    result = il.run(slow, [torch.ones(1)], **options)
    (warning,) = [one for one in result.warnings if one.code == "warm-up-cut-short"]
    assert "2 of 10 warm-up calls" in warning.message
    assert told.is_set()
    whole = il.run(slow, [torch.ones(1)], warmup="fixed", **options)
    assert "warm-up-cut-short" not in [one.code for one in whole.warnings]
    assert len(whole.set_up.first_ten_ms) == 10


@pytest.mark.multiprocess
def test_warm_up_in_other_processes_is_told_as_well(model):
    words = ["run", f"{model}:steady", "--warmup", 1000, "--calls", 10]
    done = started(*words)
    _, said = done.communicate(timeout=120)
    assert done.returncode == 0
    assert " of 1,000 calls, " in said
