"""Forecasts, from the command line and from Python, of services that were really measured."""

from __future__ import annotations

import re
import statistics
import time
from pathlib import Path

import pytest
import torch

import inferload as il
from inferload.studies.records.files import save_study
from support.forecasts import swept_in
from support.program import inferload, inferload_here


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return swept_in(tmp_path_factory.mktemp("forecast"))


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


def test_no_figure_is_cut_short_on_a_narrow_terminal(swept: Path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    done = inferload_here("forecast", swept / "s.json", "--rates", "40,80")
    assert done.returncode == 0, done.stderr
    assert "\u2026" not in done.stdout


def test_how_many_replicas(swept: Path):
    done = inferload_here(
        "forecast", swept / "s.json", "--rates", "2000", "--limit", "p99<=100ms",
        "--balancing", "least-loaded", "--lost", "1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2,000/s at p99 <= 100 ms: " in done.stdout
    assert "serve and 1 is lost" in done.stdout


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
