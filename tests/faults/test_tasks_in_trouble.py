"""Runs of coroutines and streams that signals, kills or time limits end: what was done is kept."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import inferload as il
from support.forks import Forked
from support.gates import PATIENCE_S
from support.program import IMPATIENT, inferload_here

MODEL = """
import asyncio, os, signal, sys, time, torch
made = 0
def hanging():
    sys.stdout.write("hanging\\n")
    sys.stdout.flush()
async def awaits(x):
    global made
    mine = made = made + 1
    await asyncio.sleep(0.002)
    yield 1
    if mine == 60:
        hanging()
        await asyncio.sleep(10_000)
    yield 2
async def blocks(x):
    global made
    mine = made = made + 1
    await asyncio.sleep(0.002)
    if mine == 60:
        hanging()
        time.sleep(10_000)
async def dies(x):
    global made
    mine = made = made + 1
    await asyncio.sleep(0.002)
    yield 1
    if mine == 60:
        os.kill(os.getpid(), signal.SIGKILL)
    yield 2
def streams(x):
    global made
    mine = made = made + 1
    time.sleep(0.002)
    yield 1
    if mine == 60:
        hanging()
        time.sleep(10_000)
    yield 2
def inputs():
    return [torch.zeros(1)]
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MODEL)
    return path


@pytest.mark.multiprocess
@pytest.mark.parametrize(
    ("number", "name", "words"),
    [
        (signal.SIGTERM, "awaits", ("--isolate", "--rate", "300")),
        (signal.SIGINT, "blocks", ("--isolate",)),
        (signal.SIGINT, "awaits", ("--no-isolate",)),
        (signal.SIGHUP, "streams", ("--processes=2",)),
    ],
)
def test_a_signal_gives_up_the_call_that_hangs_and_saves_the_others(
    number, name, words, model, tmp_path
):
    path = tmp_path / "r.json"
    asked = ["run", f"{model}:{name}", "--callers", "4", "--duration", "1h", "--warmup", "2"]
    with Forked(
        [sys.executable, IMPATIENT, *asked, *words, "--json", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "hanging\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, said
    assert f"{number.name} ended the run after" in said
    assert "Traceback" not in said
    result = il.load_result(path)
    assert result.status == "interrupted"
    assert result.summary.completed_calls >= 40
    if name != "blocks":
        assert (result.log.pieces == 2).all()
        assert result.summary.pieces.calls == result.summary.completed_calls
    assert any(one.code == "calls-given-up" for one in result.warnings)


@pytest.mark.multiprocess
def test_a_process_that_is_killed_in_a_stream_leaves_the_calls_before(model, tmp_path):
    path = tmp_path / "r.json"
    words = ["run", f"{model}:dies", "--callers", "3", "--duration", "1h", "--json", path]
    done = inferload_here(*words, "--warmup", "2")
    assert done.returncode == 3
    assert "was killed by SIGKILL" in done.stderr
    result = il.load_result(path)
    assert result.log.calls_made >= 40
    assert (result.log.pieces == 2).all()
    assert result.summary.pieces.gap_ms is None  # single pieces were in its memory
    assert result.summary.pieces.call_gap_ms.count == result.log.calls_made


@pytest.mark.parametrize("on_error", ["record", "stop"])
def test_a_call_that_takes_too_long_is_cancelled(on_error, model, tmp_path):
    path = tmp_path / "r.json"
    done = inferload_here(
        "run", f"{model}:awaits", "--callers", "3", "--calls", "200", "--warmup", "2",
        "--timeout", "400ms", "--on-error", on_error, "--json", path,
    )  # fmt: skip
    assert done.returncode == 1
    result = il.load_result(path)
    assert result.summary.failed_calls == 1
    (failed,) = result.log.pieces[~result.log.completed]
    assert failed == 1  # what came before is kept
    assert result.log.errors[0].type == "TimedOut"
    if on_error == "stop":
        assert "had not returned after 0.4 s, and was cancelled" in done.stderr
    else:
        assert result.log.calls_made == 200


def test_a_call_that_holds_up_its_loop_cannot_be_cancelled_and_ends_the_run(model, tmp_path):
    path = tmp_path / "r.json"
    done = inferload_here(
        "run", f"{model}:blocks", "--callers", "2", "--calls", "200", "--warmup", "2",
        "--timeout", "200ms", "--on-error", "record", "--json", path,
    )  # fmt: skip
    assert done.returncode == 1
    assert "had not returned" in done.stderr
    assert il.load_result(path).status == "timed out"
