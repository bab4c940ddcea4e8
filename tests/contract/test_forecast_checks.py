"""Forecasts that are held to account: their points are run on this machine."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

import inferload as il
from inferload.studies.forecast import checking
from support.forecasts import SLEEPS, swept_in
from support.forks import Forked
from support.program import PROGRAM, inferload, inferload_here


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return swept_in(tmp_path_factory.mktemp("forecast"))


def test_a_forecast_is_checked_on_this_machine(swept: Path, monkeypatch):
    monkeypatch.setattr(checking, "_SERVICE_S", 0.5)
    monkeypatch.setattr(checking, "FEWEST_ROUNDS", 2)
    saved = swept / "checked.json"
    done = inferload_here(
        "forecast", "s.json", "--rates", "40,80", "--check", "sleeps.py",
        "--check-duration", "6s", "--json", saved, cwd=swept,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "in the same minutes" in " ".join(done.stdout.split())
    points = il.load_study(saved).points
    for one in points:
        held = one.checked
        assert held.calls == pytest.approx(one.rate_per_s * 6, rel=0.4)
        assert held.p50_ms.value >= 4.0
        assert held.again_p50_ms >= 4.0
    assert il.load_study(saved).service_change is not None


def test_a_mix_is_checked_by_its_run_file(tmp_path: Path, monkeypatch):
    (tmp_path / "sleeps.py").write_text(SLEEPS)
    (tmp_path / "mix.toml").write_text(
        'rate = 5\nlimit = ["p99<=1ms"]\n[models.a]\nmodel = "sleeps.py"\nweight = 0.7\n'
        '[models.b]\nmodel = "sleeps.py"\nweight = 0.3\n'
    )
    monkeypatch.setattr(checking, "_SERVICE_S", 0.5)
    monkeypatch.setattr(checking, "FEWEST_ROUNDS", 1)
    closed = (tmp_path / "mix.toml").read_text().split("\n", 2)[2]
    (tmp_path / "closed.toml").write_text(closed)
    swept = inferload_here(
        "sweep", "closed.toml", "--callers", "1,2", "--threads-per-call", "1", "--duration", "1s",
        "--json", "s.json", cwd=tmp_path,
    )  # fmt: skip
    assert swept.returncode == 0, swept.stderr
    words = ["--rates", "40", "--check", "mix.toml", "--check-duration", "3s", "--json", "f.json"]
    done = inferload_here("forecast", "s.json", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (point,) = il.load_study(tmp_path / "f.json").points
    assert point.checked.calls == pytest.approx(120, rel=0.5)


SUMS = """
import time
import torch


class Sums(torch.nn.Module):
    def forward(self, x):
        time.sleep(0.01 * len(x))
        return x.sum(dim=1)


model = Sums()


def inputs():
    return [torch.ones(1, 3), torch.ones(1, 5)]
"""


def test_batches_are_padded_in_a_check_as_they_were_and_refused_where_they_were_not(
    tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(checking, "_SERVICE_S", 0.5)
    monkeypatch.setattr(checking, "FEWEST_ROUNDS", 1)
    (tmp_path / "sums.py").write_text(SUMS)
    sweep = ["sweep", "sums.py", "--max-batches", "1,4", "--clients", "8", "--duration", "1s"]
    words = ["--max-batch", "4", "--max-delay", "2ms", "--rates", "20", "--check", "sums.py"]
    words += ["--check-duration", "3s", "--json", "f.json"]
    for pad, code in ((["--batch-pad", "0"], 0), ([], 2)):
        swept = inferload_here(*sweep, *pad, "--json", f"s{code}.json", cwd=tmp_path)
        assert swept.returncode == 0, swept.stderr
        done = inferload_here("forecast", f"s{code}.json", *words, cwd=tmp_path)
        assert done.returncode == code, done.stderr
    assert "inputs have 2 shapes, which are batched apart" in done.stderr
    (point,) = il.load_study(tmp_path / "f.json").points
    assert point.checked.calls == pytest.approx(60, rel=0.5)
    # most batches are of one request, which takes 10 ms, and one of four 40 ms
    assert 10 < point.checked.again_p50_ms < 30


def test_a_check_of_another_model_is_refused(swept: Path, monkeypatch):
    monkeypatch.setattr(checking, "_SERVICE_S", 0.3)
    other = SLEEPS.replace("torch.tensor(", "torch.ones(2, 2) * torch.tensor(")
    other = other.replace("float(x)", "float(x.mean())")
    (swept / "other.py").write_text(other)
    assert other != SLEEPS
    words = ["--rates", "40", "--check-duration", "3s"]
    for model, says in (("other.py", "another model than was measured: inputs"),
                        ("none.py", "none.py is not there")):  # fmt: skip
        done = inferload_here("forecast", "s.json", *words, "--check", model, cwd=swept)
        assert done.returncode == 2
        assert says in " ".join(done.stderr.split())


def test_rounds_of_a_check_that_were_whole_are_kept(swept: Path, monkeypatch):
    made = []
    point = checking._point

    def stops(*given):
        made.append(given)
        if len(made) == 3:
            raise KeyboardInterrupt
        return point(*given)

    monkeypatch.setattr(checking, "_SERVICE_S", 0.3)
    monkeypatch.setattr(checking, "_point", stops)
    done = inferload_here(
        "forecast", "s.json", "--rates", "40", "--check", "sleeps.py", "--check-duration", "6s",
        "--json", "kept.json", cwd=swept,
    )  # fmt: skip
    assert done.returncode == 130
    assert "the check is of 2 of 3 rounds" in done.stderr
    found = il.load_study(swept / "kept.json")
    assert found.status == "interrupted"
    assert "at once; interrupted" in done.stdout
    (one,) = found.points
    assert one.checked.calls == pytest.approx(160, rel=0.5)


def test_a_check_that_ends_early_leaves_the_forecast(swept: Path):
    raises = SLEEPS.replace("time.sleep(float(x))", 'raise ValueError("no")')
    kills = SLEEPS.replace("time.sleep(float(x))", "__import__('os')._exit(7)")
    (swept / "raises.py").write_text(raises)
    (swept / "kills.py").write_text(kills)
    for name, code in (("raises.py", {1, 2}), ("kills.py", {3})):
        saved = swept / f"{name}.json"
        done = inferload(
            "forecast", "s.json", "--rates", "40", "--check", name, "--json", saved, cwd=swept
        )
        assert done.returncode in code, done.stderr
        assert "Traceback" not in done.stderr
        assert il.load_study(saved).points[0].p50_ms is not None
        assert "the forecast has no check" in done.stderr


def test_a_check_that_is_interrupted_leaves_the_forecast(swept: Path):
    words = [*PROGRAM, "forecast", "s.json", "--rates", "40", "--check", "sleeps.py"]
    with Forked(words, cwd=swept, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as one:
        for line in one.stderr:
            if line.startswith("check, round 1 of 3: 40"):
                break
        one.send_signal(signal.SIGINT)
        shown, said = one.communicate(timeout=60)
    assert one.returncode == 130
    assert "interrupted: the forecast has no check" in said
    assert "40.0" in shown


LINEAR = """
import torch

model = torch.nn.Linear(64, 64).eval()


def inputs():
    return [torch.ones(256, 64)]
"""


def test_a_check_is_in_the_form_in_which_most_was_made(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(checking, "_SERVICE_S", 0.3)
    monkeypatch.setattr(checking, "FEWEST_ROUNDS", 1)
    (tmp_path / "linear.py").write_text(LINEAR)
    words = ["--forms", "export", "--threads-per-call", "1", "--duration", "0.5s"]
    swept = inferload_here(
        "sweep", "linear.py", "--callers", "1,2", *words, "--json", "s.json", cwd=tmp_path
    )
    assert swept.returncode == 0, swept.stderr
    done = inferload_here(
        "forecast", "s.json", "--rates", "100", "--check", "linear.py", "--check-duration", "2s",
        "--json", "f.json", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (one,) = il.load_study(tmp_path / "f.json").points
    assert one.checked.calls == pytest.approx(200, rel=0.4)
