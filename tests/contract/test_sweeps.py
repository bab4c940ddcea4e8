"""Sweeps of models, from Python and the command line."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
import torch

import inferload as il
from support import models
from support.forks import Forked
from support.model_files import FILE, written_to
from support.program import PROGRAM, inferload, inferload_here, run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written_to(tmp_path)


def test_a_sweep_over_callers_and_forms(tmp_path):
    path = tmp_path / "s.json"
    study = il.sweep(
        models.mlp(),
        [torch.randn(2, 8)],
        callers=[1, 2],
        forms=["eager", "script"],
        calls=60,
        threads_per_call=1,
        blocks=2,
        save=path,
    )
    assert study.status == "complete"
    assert len(study.runs) == 8
    assert {one.spec.form for one in study.runs} == {"eager", "script"}
    assert all(one.spec.callers == one.settings.callers for one in study.runs)
    assert all(one.summary.completed_calls == 60 for one in study.runs)
    assert all(one.throughput_calls_per_s.value > 0 for one in study.points)
    assert il.load_study(path).points == study.points


def test_a_sweep_of_a_model_that_answers_in_pieces(tmp_path):
    def pieces(x):
        yield x
        yield x

    study = il.sweep(
        pieces, [torch.zeros(1)], callers=[1, 2], duration_s=0.2, blocks=1, save=tmp_path / "s.json"
    )
    assert study.slice_s is not None
    assert il.load_study(tmp_path / "s.json").points == study.points
    assert all(one.summary.pieces.mean_pieces == 2 for one in study.runs)
    pickle.dumps(study)


def test_ctrl_c_in_a_slice_leaves_nothing_behind_in_this_process():
    calls = []

    def interrupts(x):
        calls.append(1)
        if len(calls) == 200:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.001)

    threads, torch_threads = threading.active_count(), torch.get_num_threads()
    with pytest.raises(il.StudyInterrupted, match="interrupted after 0 of 2 runs"):
        il.sweep(interrupts, [torch.zeros(1)], callers=[1, 2], threads_per_call=1, blocks=1)
    assert threading.active_count() <= threads
    assert torch.get_num_threads() == torch_threads


@pytest.mark.multiprocess
def test_a_sweep_over_batch_sizes_and_processes():
    study = il.sweep(
        models.mlp(), [torch.randn(1, 8)], batch_sizes=(1, 4), processes=(1, 2), calls=20, blocks=1
    )
    assert {(one.spec.processes, one.spec.items_per_input) for one in study.runs} == {
        (1, (1,)), (1, (4,)), (2, (1,)), (2, (4,)),
    }  # fmt: skip
    assert study.peak.settings.batch_size == 4


def test_a_sweep_over_rates_is_of_open_loops():
    study = il.sweep(models.NoOp(), [torch.zeros(1)], rates_per_s=[200, 400], calls=40, blocks=1)
    assert sorted(one.spec.rate_per_s for one in study.runs) == [200, 400]
    assert all("poisson" in one.spec.load for one in study.runs)


def test_an_option_that_is_none_is_refused_by_name():
    with pytest.raises(il.PlanError, match="there is no option 'caller'"):
        il.sweep(models.NoOp(), [torch.zeros(1)], callers=[1, 2], caller=3)
    with pytest.raises(il.PlanError, match="needs a limit that a higher rate breaks"):
        il.find_max_rate(models.NoOp(), [torch.zeros(1)], "throughput>=10")


def test_the_command_line_sweeps_and_draws_it_again(folder: Path):
    done = inferload(
        "sweep", "m.py", "--callers", "1..2", "--calls", 200, "--blocks", 2, "--json", "s.json",
        cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "run 4 of 4" in done.stderr
    assert "2 points x 2 blocks" in done.stdout
    study = il.load_study(folder / "s.json")
    assert [one.runs for one in study.points] == [2, 2]
    assert study.runs[0].spec.grad_mode == "inference"
    assert study.asked["axes"] == {"callers": [1, 2]}
    again = inferload_here("report", "s.json", cwd=folder)
    assert again.stdout == done.stdout


def test_a_point_that_kills_its_process_leaves_the_others(folder: Path):
    done = inferload_here(
        "sweep", "m.py:dies", "--callers", "1,12", "--calls", 100, "--blocks", 2, "--json",
        "s.json", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 1
    assert "was ended by SIGSEGV" in " ".join(done.stdout.split())
    study = il.load_study(folder / "s.json")
    assert [(one.runs, one.tried) for one in study.points] == [(2, 2), (0, 2)]


@pytest.mark.multiprocess
def test_processes_load_a_model_of_a_file_by_themselves(folder: Path):
    done = inferload_here(
        "sweep", "m.py:sleeps", "--processes", "1,2", "--calls", 40, "--blocks", 1, "--json",
        "s.json", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    study = il.load_study(folder / "s.json")
    assert [one.spec.processes for one in study.runs if one.settings.processes == 2] == [2]


@pytest.mark.parametrize(
    ("flags", "second", "kept"),
    [
        (("--calls", "200", "--blocks", "1"), "run 2 of 3", 1),
        (("--duration", "0.5s", "--blocks", "2"), "block 2 of 2", 3),  # by slices in turn
    ],
)
def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(
    folder: Path, flags: tuple[str, ...], second: str, kept: int
):
    # calls, once there is a file, wait until another one is there
    text = FILE.replace("time.sleep(0.002)", "time.sleep(0.002)\n        waits()")
    (folder / "m.py").write_text(f"""{text}
def waits():
    while os.path.exists("s.json") and not os.path.exists("go"):
        time.sleep(0.01)
""")
    words = [
        *PROGRAM, "sweep", "m.py:sleeps", "--callers", "1..3", *flags,
        "--warmup", "0", "--json", "s.json",
    ]  # fmt: skip
    with Forked(
        words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as started:
        next(line for line in started.stderr if line.startswith(second))
        started.send_signal(signal.SIGINT)
        shown, said = started.communicate(timeout=120)
    assert started.returncode == 130
    assert f"interrupted after {kept} of" in said
    assert "the same command goes on from here" in said
    assert f"interrupted after {kept} runs" in " ".join(shown.split())
    before = il.load_study(folder / "s.json")
    (folder / "go").touch()
    done = run(words, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "going on with s.json" in done.stderr
    after = il.load_study(folder / "s.json")
    assert after.status == "complete"
    assert after.runs[:kept] == before.runs
    assert len({one.runs for one in after.points}) == 1
