"""Forecasts, from the command line and from Python, of services that were really measured."""

from __future__ import annotations

import re
import signal
import statistics
import subprocess
import time
from pathlib import Path

import pytest
import torch

import inferload as il
from inferload.studies.forecast import checking
from inferload.studies.records.files import save_study
from support.forks import Forked
from support.program import PROGRAM, inferload, inferload_here

SLEEPS = """
import time
import torch


class Sleeps(torch.nn.Module):
    def forward(self, x):
        time.sleep(float(x))
        return x


model = Sleeps()


def inputs():
    return [torch.tensor(0.004), torch.tensor(0.008)]
"""


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forecast")
    (folder / "sleeps.py").write_text(SLEEPS)
    il.sweep(
        f"{folder}/sleeps.py",
        callers=(1, 2),
        duration_s=1.5,
        blocks=3,
        threads_per_call=1,
        save=folder / "s.json",
    )
    return folder


def test_a_sweep_keeps_what_a_forecast_needs(swept: Path):
    sweep = il.load_study(swept / "s.json")
    ratios = []
    for run in sweep.runs:
        (service,) = run.services
        assert service.in_flight == run.settings.callers
        assert service.calls > 100
        ratios.append(service.factors[1] / service.factors[0])
    # of one run a single stall of a second is half of it
    assert statistics.median(ratios) == pytest.approx(2.0, rel=0.3)


def test_whole_runs_of_a_sweep_keep_it_too(tmp_path: Path):
    sweep = il.sweep(
        lambda x: time.sleep(1e-4), [torch.zeros(1)], callers=(1, 2), calls=300, blocks=1
    )
    assert sweep.why_runs is not None
    assert [one.services[0].in_flight for one in sweep.runs] == [
        one.settings.callers for one in sweep.runs
    ]


def test_the_command_line_forecasts_and_draws_again(swept: Path):
    saved, page = swept / "f.json", swept / "f.html"
    done = inferload(
        "forecast", "s.json", "--rates", "100,200,9000", "--replicas", "1,3",
        "--balancing", "two-choices", "--limit", "p99<=1s", "--json", saved, "--html", page,
        cwd=swept,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [one.split() for one in done.stdout.splitlines()]
    rates = [one[0] for one in lines if len(one) > 4 and one[1] in {"1", "3"}]
    assert rates == ["100", "200", "9,000"] * 2
    assert "the queue grows without end" in done.stdout
    assert "two-choices" in done.stdout
    again = inferload_here("report", saved)
    assert again.stdout.strip() == done.stdout.strip()
    assert "Response time against the rate" in page.read_text()
    assert len(il.load_study(saved).points) == 6


def test_runs_in_closed_loops_are_as_good(swept: Path):
    paths = []
    for callers in (1, 2):
        load = il.ClosedLoop(callers=callers)
        result = il.run(f"{swept}/sleeps.py", load=load, duration_s=1.0, threads_per_call=1)
        paths.append(swept / f"r{callers}.json")
        result.save(paths[-1])
    found = il.forecast(paths, rates_per_s=100, replicas=2)
    assert [one.in_flight for one in found.service] == [1, 2]
    assert found.points[0].p50_ms.value >= 4.0
    again = il.forecast([str(one) for one in paths], rates_per_s=100, replicas=2)
    assert again.points == found.points


def test_how_many_replicas(swept: Path):
    done = inferload_here(
        "forecast", swept / "s.json", "--rates", "2000", "--limit", "p99<=100ms",
        "--balancing", "least-loaded", "--lost", "1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2,000/s at p99 <= 100 ms: " in done.stdout
    assert "serve and 1 are lost" in done.stdout


def test_a_limit_that_is_not_kept_has_an_exit_code(swept: Path):
    done = inferload_here("forecast", swept / "s.json", "--rates", "50", "--limit", "p50<=1ms")
    assert done.returncode == 1
    assert "calls take longer by themselves" in " ".join(done.stdout.split())


def test_a_damaged_service_is_a_damaged_file(swept: Path, tmp_path: Path):
    text = (swept / "s.json").read_text()
    broken = tmp_path / "broken.json"
    broken.write_text(re.sub(r'"window_s": [\d.]+', '"window_s": 0.0', text))
    done = inferload_here("forecast", broken)
    assert done.returncode == 2
    assert "is damaged" in done.stderr


def test_results_of_two_services_are_no_one_service(tmp_path: Path):
    for number, size in enumerate((4, 8)):
        model = torch.nn.Linear(4, 4)
        result = il.run(model, [torch.zeros(size, 4)], calls=200, threads_per_call=1)
        result.save(tmp_path / f"{number}.json")
    done = inferload_here("forecast", "0.json", "1.json", cwd=tmp_path)
    assert done.returncode == 2
    assert "0.json and 1.json are of two services" in done.stderr


def test_batches_of_callers_that_were_not_all_busy_are_refused(tmp_path: Path):
    batching = il.Batching(max_batch=4)
    load = il.OpenLoop.poisson(100.0, callers=4)
    result = il.run(
        lambda x: (time.sleep(2e-3), x)[1], [torch.zeros(1, 2)], load=load, batching=batching,
        duration_s=1.0,
    )  # fmt: skip
    with pytest.raises(il.PlanError, match="its callers were not all busy: --clients 32"):
        il.forecast(result)


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


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nothing.json"], "nothing.json cannot be read"),
        (["s.json", "--callers", "9"], "9 calls at once were not measured"),
        (["s.json", "--balancing", "fair"], "balancing 'fair' is unknown"),
        (["s.json", "--max-batch", "8"], "batches of up to 8 were not measured often enough"),
        (["s.json", "--max-delay", "5ms"], "give --max-batch"),
        (["s.json", "--rates", "many"], "many"),
        (["s.json", "--arrivals", "gamma"], "need a shape"),
        (["s.json", "--limit", "errors<=1%"], "cannot be forecast"),
        (["s.json", "--replicas", "1", "--lost", "1"], "none is left"),
        (["s.json", "--replicas", "3", "--check", "sleeps.py"], "no point of this forecast"),
        (["s.json", "--json", "s.json"], "would overwrite"),
        (["open.json"], "measure a closed loop"),
        (["s.json", "open.json"], "open.json does not tell"),
    ],
)
def test_what_cannot_be_forecast_is_wrong_use_in_one_sentence(
    swept: Path, words, says, monkeypatch
):
    monkeypatch.chdir(swept)
    if "open.json" in words and not Path("open.json").exists():
        load = il.OpenLoop.poisson(50.0, callers=2)
        il.run(lambda x: time.sleep(1e-3), [torch.zeros(1)], load=load, calls=50).save("open.json")
    done = inferload_here("forecast", *words)
    assert done.returncode == 2, done.stdout
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_other_studies_are_refused_by_their_names(tmp_path: Path):
    found = il.find_max_rate(
        lambda x: time.sleep(1e-4), [torch.zeros(1)], "p99<=1s", time_limit_s=2.0
    )
    save_study(found, tmp_path / "m.json")
    with pytest.raises(il.PlanError, match="no sweep and no run"):
        il.forecast(tmp_path / "m.json")
    with pytest.raises(il.PlanError, match="give sweeps, runs, or their files"):
        il.forecast([found])


def test_a_run_of_one_caller_beside_the_sweep_tells_what_pauses_cost(swept: Path):
    result = il.run(
        f"{swept}/sleeps.py",
        load=il.OpenLoop.poisson(rate_per_s=90),
        duration_s=8.0,
        threads_per_call=1,
    )
    alone = il.forecast(swept / "s.json", rates_per_s=50, requests=5000)
    assert any("what pauses cost was not measured" in one for one in alone.notes)
    both = il.forecast([swept / "s.json", result], rates_per_s=50, requests=5000)
    assert any(re.search(r"after pauses .*as \d+ calls", one) for one in both.notes)
    # its calls come after pauses: what they take without is the sweep's alone
    assert [one.calls for one in both.service] == [one.calls for one in alone.service]
    few = il.run(
        f"{swept}/sleeps.py", load=il.OpenLoop.poisson(rate_per_s=90), calls=2, threads_per_call=1
    )
    told = il.forecast([swept / "s.json", few], rates_per_s=50, requests=5000)
    assert any("does not tell what pauses cost" in one for one in told.notes)
