"""What is raised, interrupted, full and missing: a result all the same, and a clear sentence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

import inferload as il
from inferload.callers.native.build import native_extension
from inferload.log.calls import DISTINCT_OF_A_CLASS
from support import models
from support.disks import may_mount
from support.forks import Forked
from support.gates import PATIENCE_S, Interrupts
from support.program import run

X = torch.ones(2)
BOTH = ["threads", pytest.param("native", marks=pytest.mark.native)]


def for_executor(model: torch.nn.Module, executor: str) -> torch.nn.Module:
    return torch.jit.script(model) if executor == "native" else model


@pytest.mark.parametrize("executor", BOTH)
def test_the_first_exception_ends_the_run_and_keeps_what_had_finished(executor):
    model = for_executor(models.RaisesOnNegative(), executor)
    inputs = [X] * 50 + [-X]
    with pytest.raises(il.CallError, match=r"raised in caller \d on input 50") as error:
        il.run(
            model,
            inputs,
            load=il.ClosedLoop(callers=3),
            calls=100_000,
            warmup_calls=2,
            executor=executor,
        )
    assert "negative input" in str(error.value.__cause__)
    result = error.value.result
    assert result.status == "failed"
    assert 1 <= result.summary.failed_calls <= 3
    assert 0 < result.summary.completed_calls < 100_000
    failed = result.log.error >= 0
    assert set(result.log.input[failed]) == {50}
    assert "negative input" in result.log.errors[0].message


def test_nothing_is_cut_of_a_run_that_an_exception_has_ended(monkeypatch):
    monkeypatch.setattr("inferload.runs.result.stats.cut_of", lambda _: 30.0)  # after all of it
    with pytest.raises(il.CallError) as error:
        il.run(models.RaisesOnNegative(), [X] * 9 + [-X], duration_s=60.0, warmup_calls=0)
    result = error.value.result
    assert result.spec.warmup == "auto"
    assert (result.summary.from_s, result.summary.failed_calls) == (0.0, 1)


@pytest.mark.parametrize("executor", BOTH)
def test_recorded_exceptions_are_logged_and_the_run_goes_on(executor):
    model = for_executor(models.RaisesOnNegative(), executor)
    result = il.run(
        model,
        [X, -X],
        load=il.ClosedLoop(callers=2),
        calls=500,
        on_error="record",
        executor=executor,
    )
    assert result.status == "complete"
    assert (result.summary.completed_calls, result.summary.failed_calls) == (250, 250)
    assert len(result.log.errors) == 1
    assert set(result.log.input[result.log.error >= 0]) == {1}
    assert "failed-calls" in [one.code for one in result.warnings]


def test_exceptions_in_ever_new_words_do_not_fill_the_memory():
    words = iter(range(10_000))

    def fails(x):
        raise ValueError(f"number {next(words)}")

    result = il.run(fails, [X], calls=2000, on_error="record", warmup_calls=0)
    assert len(result.log.errors) == DISTINCT_OF_A_CLASS
    assert result.summary.failed_calls == 2000
    assert result.log.error.max() == DISTINCT_OF_A_CLASS - 1


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), MemoryError()])
def test_whatever_a_model_raises_reaches_the_user_as_it_was(raised):
    def fails(x):
        raise raised

    with pytest.raises(il.CallError) as error:
        il.run(fails, [X], calls=5)
    assert error.value.__cause__ is raised
    assert "while warming up" in str(error.value)
    assert error.value.result.summary.completed_calls == 0
    str(error.value.result)


def test_a_model_that_fails_while_it_is_compiled_is_refused(monkeypatch: pytest.MonkeyPatch):
    def fails(x):
        raise ValueError("no shape fits")

    with pytest.raises(il.PlanError, match=r"failed while it was prepared: .*no shape fits"):
        il.run(torch.compile(fails, backend="eager"), [X], calls=5)


SCRIPT = """
import sys, time, torch, inferload as il
torch.set_num_threads(1)
class Busy(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(20):
            x = torch.mm(x, x).clamp(-1, 1)
        return x
model = Busy() if sys.argv[1] == "threads" else torch.jit.script(Busy())
class Says:
    def stage(self, text): pass
    def progress(self, finished, elapsed):
        print("calling", flush=True)
try:
    il.run(model, [torch.eye(64)], load=il.ClosedLoop(callers=2), duration_s=60,
           executor=sys.argv[1], observer=Says())
except il.RunInterrupted as stop:
    stop.result.save(sys.argv[2])
    print("partial", stop.result.status, stop.result.summary.completed_calls > 0, flush=True)
"""


@pytest.mark.parametrize("executor", BOTH)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_soon_and_keeps_the_partial_result(executor, number, tmp_path: Path):
    path = tmp_path / "r.json"
    script = tmp_path / "script.py"  # TorchScript wants to read its source
    script.write_text(SCRIPT)
    words = [sys.executable, str(script), executor, str(path)]
    with Forked(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "calling\n"
        process.send_signal(number)
        rest = process.stdout.read()
        assert process.wait() == 0
    # of 60 s: a run that did not heed it would come to its end
    assert "partial interrupted True" in rest
    assert il.load_result(path).status == "interrupted"


def test_the_signal_handlers_are_those_of_before_after_a_run():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    il.run(models.NoOp(), [X], calls=5)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_second_signal_does_not_wait_for_a_call_that_hangs():
    began, hang = threading.Event(), threading.Event()

    def hangs(x):
        began.set()
        hang.wait(PATIENCE_S)

    twice = Interrupts(lambda *_: began.is_set(), times=2)
    with pytest.raises(il.RunInterrupted) as stop:
        il.run(hangs, [X], calls=5, warmup_calls=0, observer=twice)
    hang.set()
    assert stop.value.abandoned
    assert stop.value.result.status == "interrupted"
    assert stop.value.result.summary.completed_calls == 0


def test_calls_given_up_are_in_no_figure_and_the_others_are_whole():
    began, hang = threading.Event(), threading.Event()
    calls = iter(range(1000))

    def hangs_late(x):
        if next(calls) == 40:
            began.set()
            hang.wait(PATIENCE_S)

    twice = Interrupts(lambda *_: began.is_set(), times=2)
    with pytest.raises(il.RunInterrupted) as stop:
        il.run(hangs_late, [X], calls=1000, warmup_calls=0, observer=twice)
    hang.set()
    assert stop.value.abandoned
    result = stop.value.result
    assert result.summary.completed_calls == 40
    assert (result.log.queue_ns == 0).all()
    assert "calls-given-up" in [one.code for one in result.warnings]


def test_a_signal_while_the_result_is_put_together_does_not_lose_it(monkeypatch):
    from inferload.runs.checks import result as checks

    def interrupted_meanwhile(findings):
        os.kill(os.getpid(), signal.SIGINT)
        return []

    monkeypatch.setattr(checks, "warnings_after", interrupted_meanwhile)
    assert il.run(models.NoOp(), [X], calls=30).summary.completed_calls == 30


@pytest.mark.parametrize("warmup_calls", [0, 2])
@pytest.mark.parametrize("on_error", ["stop", "record"])
def test_an_exception_without_words_neither_hangs_the_run_nor_loses_it(warmup_calls, on_error):
    class MuteError(Exception):
        def __str__(self):
            raise RuntimeError("no words")

    def fails(x):
        raise MuteError

    options = {"calls": 20, "warmup_calls": warmup_calls, "on_error": on_error}
    if on_error == "record":
        assert il.run(fails, [X], **options).summary.failed_calls == 20
    else:
        with pytest.raises(il.CallError, match="its text cannot be had"):
            il.run(fails, [X], **options)


def test_text_that_utf_8_cannot_hold_is_saved_all_the_same(tmp_path: Path):
    def fails(x):
        raise ValueError("bad \udcff")

    result = il.run(fails, [X], calls=3, on_error="record")
    result.save(tmp_path / "r.json")
    assert "bad" in il.load_result(tmp_path / "r.json").log.errors[0].message


def test_an_observer_that_fails_leaves_no_caller_behind():
    class Breaks:
        def stage(self, text):
            pass

        def progress(self, finished_calls, elapsed_s):
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        il.run(models.Sleeps(0.01), [X], calls=1000, observer=Breaks())
    assert not [one for one in threading.enumerate() if one.name.startswith("caller-")]


def test_a_trace_that_cannot_be_written_keeps_the_result(tmp_path: Path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch.profiler.profile, "export_chrome_trace", full)
    result = il.run(models.NoOp(), [X], calls=5, trace=tmp_path / "t.json")
    assert "trace-not-written" in [one.code for one in result.warnings]
    with pytest.raises(il.PlanError, match="does not exist"):
        il.run(models.NoOp(), [X], calls=5, trace=tmp_path / "no" / "t.json")


# Room for eight stacks and for half of one: what threads take besides is not what there is none of.
FEW_THREADS = """
import resource, sys, torch, inferload as il
class NoOp(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x
model = NoOp() if sys.argv[1] == "threads" else torch.jit.script(NoOp())
il.run(model, [torch.zeros(1)], calls=5, executor=sys.argv[1])
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
room = used + int(8.5 * resource.getrlimit(resource.RLIMIT_STACK)[0])
resource.setrlimit(resource.RLIMIT_AS, (room, room))
try:
    il.run(model, [torch.zeros(1)], load=il.ClosedLoop(callers=500), calls=500,
           executor=sys.argv[1])
except il.PlanError as error:
    print(error, flush=True)
"""


@pytest.mark.parametrize("executor", BOTH)
def test_more_callers_than_the_machine_starts_are_refused(executor, tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(FEW_THREADS)
    words = f"ulimit -s {1 << 20} && MALLOC_ARENA_MAX=1 exec {sys.executable} {script} {executor}"
    done = run(["sh", "-c", words], timeout_s=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("500 callers could not be started")


def test_a_run_in_another_thread_than_the_main_one_works():
    found = []
    thread = threading.Thread(target=lambda: found.append(il.run(models.NoOp(), [X], calls=5)))
    thread.start()
    thread.join()
    assert found[0].summary.completed_calls == 5


FULL_DISK = """
import sys, torch, inferload as il, inferload.log.ring, inferload.callers.native.executor as n
import inferload.callers.python.run as t
inferload.log.ring.GROWTH_ROWS = n.GROWTH_ROWS = t.GROWTH_ROWS = 1024
class NoOp(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x
model = NoOp() if sys.argv[1] == "threads" else torch.jit.script(NoOp())
result = il.run(model, [torch.zeros(1)], duration_s=20, executor=sys.argv[1])
print([one.code for one in result.warnings], len(result.log), result.status)
try:
    il.run(model, [torch.zeros(1)], calls=1_000_000, executor=sys.argv[1])
except il.PlanError as error:
    print(error)
"""


@pytest.mark.parametrize("executor", BOTH)
@pytest.mark.skipif(not may_mount(), reason="needs user namespaces, to mount a tiny disk")
def test_a_disk_that_fills_up_ends_the_run_and_keeps_its_calls(executor, tmp_path: Path):
    if executor == "native":
        native_extension()  # a compiler wants more than that disk has
    script, disk = tmp_path / "script.py", tmp_path / "disk"
    script.write_text(FULL_DISK)
    disk.mkdir()
    run = (
        f"mount -t tmpfs -o size=160k tmpfs {disk} && "
        f"TMPDIR={disk} {sys.executable} -W ignore {script} {executor}"
    )
    words = ["unshare", "--mount", "--map-root-user", "sh", "-c", run]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run_by_duration, too_many_calls = done.stdout.splitlines()
    assert "'disk-full'" in run_by_duration
    assert run_by_duration.endswith("complete")
    # the last range of rows, at most 1,024, is claimed in vain
    assert 512 <= int(run_by_duration.split()[-2]) <= 4096
    assert "No space left on device" in too_many_calls
