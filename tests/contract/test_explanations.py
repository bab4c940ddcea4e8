"""Explanations of real models: from the command line and from Python, saved, and drawn again."""

from __future__ import annotations

import mmap
import time
from typing import TYPE_CHECKING

import pytest
import torch

import inferload as il
from inferload.cli.silent import Silent
from inferload.errors import PlanError
from inferload.plan.model import ModelSource
from inferload.plan.options import RunOptions
from inferload.studies.bench import Turn
from inferload.studies.child.bench import ChildBench
from inferload.studies.local import roof, traced
from inferload.studies.local.bench import LocalBench
from inferload.studies.records.settings import Settings
from support.program import inferload_here

if TYPE_CHECKING:
    from pathlib import Path

WAITS = """
import time


def model(x):
    time.sleep(0.004)
    return x


def inputs():
    import torch

    return [torch.ones(1, 4)]
"""
OPTIONS = RunOptions(duration_s=0.3, threads_per_call=1, warmup="fixed").checked()


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("explained")
    (folder / "waits.py").write_text(WAITS)
    done = inferload_here(
        "explain", "waits.py", "--callers", "2", "--threads-per-call", "1", "--duration", "0.3s",
        "--time-limit", "1s", "--json", "e.json", "--html", "e.html", "--markdown", "e.md",
        cwd=folder, COLUMNS="80",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_a_model_that_waits_is_said_to(explained: tuple[Path, str]):
    folder, told = explained
    found = il.load_study(folder / "e.json")
    assert isinstance(found, il.Explanation)
    assert found.status == "complete"
    assert found.bound == "waiting"
    twice = found.effect("callers-twice")
    assert twice is not None
    assert twice.claimed
    assert twice.ratio == pytest.approx(2.0, rel=0.25)
    assert found.used is not None
    assert found.used.cores < 0.5
    assert "Waiting bounds it" in " ".join(told.split())
    assert max(map(len, told.splitlines())) <= 80


def test_its_command_keeps_the_best_change(explained: tuple[Path, str]):
    found = il.load_study(explained[0] / "e.json")
    assert isinstance(found, il.Explanation)
    assert found.best in {"callers-twice", "batch"}
    words = found.command.split()
    assert words[:3] == ["inferload", "run", "waits.py"]
    assert "--threads-per-call" in words
    done = inferload_here(*words[1:-1], "0.2s", cwd=explained[0])
    assert done.returncode == 0, done.stderr


def test_it_is_drawn_again_from_its_file(explained: tuple[Path, str]):
    folder, told = explained
    again = inferload_here("report", "e.json", cwd=folder, COLUMNS="80")
    assert again.stdout == told
    page = (folder / "e.html").read_text()
    assert "Waiting bounds it" in page
    assert "What if" in page
    assert "Waiting bounds it" in (folder / "e.md").read_text()


def test_what_is_due_at_a_rate_is_refused_with_a_way_out(tmp_path: Path):
    with pytest.raises(PlanError, match="leave rates, arrivals and clients out"):
        il.explain(torch.nn.Linear(2, 2), [torch.ones(1, 2)], load=il.OpenLoop.poisson(5))
    with pytest.raises(PlanError, match="give duration_s"):
        il.explain(torch.nn.Linear(2, 2), [torch.ones(1, 2)], calls=5)
    (tmp_path / "waits.py").write_text(WAITS)
    done = inferload_here("explain", "waits.py", "--processes", "2", cwd=tmp_path)
    assert done.returncode == 2
    done = inferload_here("explain", "waits.py", "--time-limit", "0s", cwd=tmp_path)
    assert done.returncode == 2
    assert "'0s' is not understood" in done.stderr


def test_a_model_that_raises_is_told_as_in_a_run(tmp_path: Path):
    (tmp_path / "raises.py").write_text(
        "import torch\ndef model(x):\n    raise ValueError('bad weights')\n"
        "def inputs():\n    return [torch.ones(1)]\n"
    )
    done = inferload_here("explain", "raises.py", cwd=tmp_path)
    assert done.returncode == 1
    assert "bad weights" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_process_finds_more_in_its_environment(tmp_path: Path):
    (tmp_path / "env.py").write_text(
        "import os, torch\ndef model(x):\n    return x + int(os.environ['FOR_THE_MODEL'])\n"
        "def inputs():\n    return [torch.ones(1)]\n"
    )
    source = ModelSource(spec=f"{tmp_path}/env.py")
    with ChildBench(source, environment={"FOR_THE_MODEL": "3"}) as bench:
        result = bench.run(Settings(), OPTIONS, Silent())
    assert result.status == "complete"
    with ChildBench(source) as bench, pytest.raises(il.InferloadError, match="FOR_THE_MODEL"):
        bench.run(Settings(), OPTIONS, Silent())


def test_operators_and_what_they_compute_are_counted():
    model = torch.nn.Linear(64, 32, bias=False).eval()
    bench = LocalBench.of_model(model, [torch.ones(16, 64)])
    found, work = traced.traced(bench, OPTIONS, lambda _: None)
    assert found is not None
    assert "aten::mm" in {one.name for one in found.operators}
    assert 0 < sum(one.share for one in found.operators) <= 1.001
    assert found.outside == pytest.approx(1 - sum(one.share for one in found.operators), abs=0.05)
    assert work.why_not == ""
    assert work.flops == 2 * 16 * 64 * 32
    # the product reads its input and weights, and writes its output; views move nothing
    assert work.bytes == 4 * (16 * 64 + 64 * 32 + 16 * 32)
    assert work.allocations >= 1
    assert work.allocated_bytes >= 4 * 16 * 32
    assert work.peak_flops_per_s is not None
    assert work.peak_flops_per_s > 1e8


def test_operators_that_nobody_counts_flops_of_are_named():
    model = torch.nn.LSTM(32, 64, batch_first=True).eval()
    bench = LocalBench.of_model(model, [torch.ones(1, 8, 32)])
    _, work = traced.traced(bench, OPTIONS, lambda _: None)
    if work.flops is None:
        assert any("rnn" in one or "lstm" in one for one in work.uncounted)
    else:  # a torch that has no operator for all of it
        assert work.flops >= 8 * 2 * 4 * 64 * (32 + 64)


def test_what_the_machine_reaches_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("INFERLOAD_CACHE_DIR", str(tmp_path))
    times = []
    monkeypatch.setattr(roof, "_measured", lambda *_: times.append(1) or (2e9, 3e9))
    for _ in range(2):
        assert roof.roof(torch.device("cpu"), torch.float32) == (2e9, 3e9)
    assert len(times) == 1
    roof.roof(torch.device("cpu"), torch.bfloat16)
    assert len(times) == 2
    next(tmp_path.glob("roof-*.json")).write_text("{")  # spoiled: it is measured again
    for dtype in (torch.float32, torch.bfloat16):
        assert roof.roof(torch.device("cpu"), dtype) == (2e9, 3e9)


@pytest.mark.slow
def test_a_package_is_made_once_for_all_processes(tmp_path: Path, monkeypatch):
    model, x = torch.nn.Linear(4, 4).eval(), torch.ones(1, 4)
    turn = Turn(options=OPTIONS, settings=Settings(form="aoti"))
    first = LocalBench.of_model(model, [x])
    first.packages = tmp_path
    with first.sliced(turn) as calls:
        calls.prepare(lambda _: None)
        assert calls.slice(0.05).calls > 0
    (package,) = tmp_path.glob("*.pt2")
    made = package.stat().st_mtime_ns
    second = LocalBench.of_model(model, [x])
    second.packages = tmp_path
    with second.sliced(turn) as calls:
        ready = calls.prepare(lambda _: None)
        assert ready.spec.form == "aoti"
        assert calls.slice(0.05).calls > 0
    assert package.stat().st_mtime_ns == made


def test_slices_know_what_the_process_used():
    def computes(x):
        until = time.thread_time() + 0.004
        while time.thread_time() < until:
            with mmap.mmap(-1, 400 * mmap.PAGESIZE) as pages:
                for page in range(400):
                    pages[page * mmap.PAGESIZE] = 1
        return x

    bench = LocalBench.of_model(computes, [torch.ones(1)])
    with bench.sliced(Turn(options=OPTIONS)) as calls:
        calls.prepare(lambda _: None)
        found = calls.slice(0.3)
    used = found.used
    assert used is not None
    assert used.wall_s >= 0.3
    assert 0.004 * found.calls * 0.9 <= used.cpu_s <= used.wall_s * 2
    assert used.system_s > 0
    assert used.faults >= 400 * found.calls
    assert used.gave_up + used.lost >= 0
