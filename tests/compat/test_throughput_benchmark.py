"""The drop-in against the class it replaces, in one process; each fault of that class mended."""

from __future__ import annotations

import inspect
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.throughput_benchmark import ThroughputBenchmark as Reference
from torch.utils.throughput_benchmark import format_time as reference_format_time

import inferload as il
from support import models

X = torch.ones(2)
PAIR = {"shift": torch.ones(2)}


def ours_and_theirs(module):
    return il.ThroughputBenchmark(module), Reference(module)


@pytest.fixture(autouse=True)
def gil_notice_is_no_error():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Starting benchmark on an nn.Module")
        yield


@pytest.mark.parametrize("make", [models.mlp, lambda: torch.jit.script(models.mlp())])
def test_run_once_gives_what_the_reference_gives(make):
    x = torch.randn(2, 8)
    ours, theirs = ours_and_theirs(make())
    assert torch.equal(ours.run_once(x), theirs.run_once(x))


@pytest.mark.parametrize("make", [models.Affine, lambda: torch.jit.script(models.Affine())])
def test_run_once_takes_arguments_of_every_kind(make):
    # the reference reads a ScriptModule's arguments without the GIL, and anything but positional
    # tensors ends the process with SIGSEGV (torch 2.13.0)
    given = il.ThroughputBenchmark(make()).run_once(X, pair=PAIR, scale=3)
    assert torch.equal(given["y"], X * 3 + 1)


def test_the_parameters_of_benchmark_stand_in_the_same_order_with_the_same_defaults():
    mine = list(inspect.signature(il.ThroughputBenchmark.benchmark).parameters.values())
    its = list(inspect.signature(Reference.benchmark).parameters.values())
    assert [(p.name, p.default) for p in mine[: len(its)]] == [(p.name, p.default) for p in its]
    assert [p.name for p in mine[len(its) :]] == ["num_worker_threads"]


@pytest.mark.parametrize("callers", [1, 3])
@pytest.mark.parametrize("make", [models.mlp, lambda: torch.jit.script(models.mlp())])
def test_the_stats_have_the_same_names_meanings_and_words(make, callers):
    ours, theirs = ours_and_theirs(make())
    for bench in (ours, theirs):
        bench.add_input(torch.zeros(1, 8))
    mine, its = ours.benchmark(callers, 2, 50), theirs.benchmark(callers, 2, 50)
    for stats in (mine, its):
        assert stats.num_iters == 50
        assert stats.total_time_seconds > 0
        assert stats.latency_avg_ms == pytest.approx(stats.total_time_seconds * 1e3 * callers / 50)
        assert stats.iters_per_second == pytest.approx(50 / stats.total_time_seconds)
    names = [name for name in dir(its.benchmark_config) if not name.startswith("_")]
    for name in names:
        if name != "num_worker_threads":
            assert getattr(mine.benchmark_config, name) == getattr(its.benchmark_config, name)
    assert mine.benchmark_config.num_worker_threads == its.benchmark_config.num_worker_threads == 1
    words = [[line.split(":")[0] for line in str(stats).splitlines()] for stats in (mine, its)]
    assert words[0] == words[1]


def test_the_text_is_the_references_text_for_the_same_figures():
    class Figures:
        num_iters, latency_avg_ms = 20, 0.427375

    its = torch.utils.throughput_benchmark.ExecutionStats(
        Figures, type("C", (), {"num_calling_threads": 2})
    )
    result = type("R", (), {})()
    end_ns, zeros = round(its.total_time_seconds * 1e9), np.zeros(20, np.int64)
    result.log = il.CallLog(
        scheduled_ns=zeros, started_ns=zeros, finished_ns=zeros + end_ns,
        caller=zeros.astype(np.int32), input=zeros.astype(np.int32),
        error=zeros.astype(np.int32) - 1,
    )  # fmt: skip
    mine = il.ExecutionStats(result, il.BenchmarkConfig(num_calling_threads=2))
    assert str(mine) == str(its)
    assert str(mine).splitlines()[0] == "Average latency per example: 427.375us"


@pytest.mark.parametrize(
    "time", [{"time_us": 0.5}, {"time_ms": 4.274}, {"time_s": 12}, {"time_us": 999.9996}]
)
def test_times_are_written_as_the_reference_writes_them(time):
    assert il.format_time(**time) == reference_format_time(**time)


@pytest.mark.parametrize("times", [{}, {"time_us": 1, "time_s": 1}])
def test_one_time_must_be_given(times):
    for function in (il.format_time, reference_format_time):
        with pytest.raises(AssertionError, match="Expected only one of time_us, time_ms, time_s"):
            function(**times)


def test_without_inputs_the_words_are_the_references_to_the_last_space():
    said = []
    for bench in ours_and_theirs(models.mlp()):
        with pytest.raises(RuntimeError) as error:
            bench.benchmark()
        said.append(str(error.value).splitlines()[0])
    assert said[0] == "Please provide benchmark inputs.Did you forget to call add_input()? "
    assert said[1].startswith(said[0].rstrip())


def test_worker_threads_are_intra_op_threads_and_none_are_refused_in_the_references_words():
    seen = set()
    bench = il.ThroughputBenchmark(lambda x: seen.add(torch.get_num_threads()))
    bench.add_input(X)
    assert bench.benchmark(num_worker_threads=3).benchmark_config.num_worker_threads == 3
    assert seen == {3}
    with pytest.raises(RuntimeError, match="Only parallelization by callers is supported"):
        bench.benchmark(num_worker_threads=0)


def test_a_wrong_input_of_a_script_module_is_refused_by_add_input_as_there():
    for bench in ours_and_theirs(torch.jit.script(models.Affine())):
        with pytest.raises(RuntimeError, match="argument 'pair'"):
            bench.add_input(X, 3)


def test_the_gil_notice_is_a_warning_and_comes_once():
    bench = il.ThroughputBenchmark(models.mlp())
    bench.add_input(torch.zeros(1, 8))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bench.benchmark()
        bench.benchmark()
    notices = [one for one in caught if "GIL" in str(one.message)]
    assert len(notices) == 1
    assert notices[0].filename == __file__
    assert "torch.export" in str(notices[0].message)


# The faults of the reference, by their numbers in its list.


@pytest.mark.parametrize(
    "make", [models.RaisesOnNegative, lambda: torch.jit.script(models.RaisesOnNegative())]
)
def test_1_a_model_that_raises_raises_and_the_process_lives(make):
    bench = il.ThroughputBenchmark(make())
    bench.add_input(X)
    bench.add_input(-X)
    with pytest.raises(il.CallError, match="negative input") as error:
        bench.benchmark(num_calling_threads=2, num_warmup_iters=0, num_iters=1000)
    assert isinstance(error.value.__cause__, RuntimeError | torch.jit.Error)
    assert error.value.input == 1
    assert error.value.result.summary.failed_calls >= 1


@pytest.mark.parametrize("make", [models.mlp, lambda: torch.jit.script(models.mlp())])
def test_3_the_trace_holds_every_callers_operators_and_no_warm_up(make, tmp_path: Path):
    path = tmp_path / "trace.json"
    bench = il.ThroughputBenchmark(make())
    bench.add_input(torch.zeros(1, 8))
    with torch.no_grad():
        stats = bench.benchmark(2, 5, 40, str(path))
    events = json.loads(path.read_text())["traceEvents"]
    linear = [e for e in events if e.get("cat") == "cpu_op" and e["name"] == "aten::addmm"]
    assert len(linear) == 2 * 40
    assert {e["tid"] for e in linear} == set() | {e["tid"] for e in linear}
    assert len({e["tid"] for e in linear}) == len(set(stats.result.log.caller))


def test_4_inference_mode_reaches_the_callers():
    seen = set()
    bench = il.ThroughputBenchmark(lambda x: seen.add(torch.is_inference_mode_enabled()))
    bench.add_input(X)
    with torch.inference_mode():
        bench.benchmark()
    assert seen == {True}


def test_5_stragglers_do_not_inflate_what_callers_saw():
    bench = il.ThroughputBenchmark(models.Sleeps(0.05))
    bench.add_input(X)
    stats = bench.benchmark(num_calling_threads=4, num_warmup_iters=0, num_iters=5)
    # four callers, two rounds: 2 x 50 ms x 4 / 5 by the old formula, 50 ms in truth
    assert stats.latency_avg_ms > 75
    assert stats.result.summary.response_ms.p50 is None
    seen_ms = np.sort(stats.result.log.response_ns) / 1e6
    assert stats.result.summary.response_ms.quantile(0.5) == pytest.approx(seen_ms[2])
    assert stats.latency_avg_ms == pytest.approx(stats.total_time_seconds * 1e3 * 4 / 5)


def test_6_inputs_are_copied_once_a_caller_not_once_a_call(monkeypatch: pytest.MonkeyPatch):
    from inferload.callers.local import called as engine

    copies = []
    monkeypatch.setattr(engine, "owned", lambda one: copies.append(one) or one)
    bench = il.ThroughputBenchmark(models.NoOp())
    bench.add_input(X)
    bench.benchmark(num_calling_threads=3, num_iters=5000)
    assert len(copies) <= 3 + 1  # the one is the calling thread's own, for preparing


@pytest.mark.parametrize(
    "make", [models.WritesIntoItsInput, lambda: torch.jit.script(models.WritesIntoItsInput())]
)
def test_7_a_model_that_writes_into_its_input_spoils_it_for_nobody(make):
    bench = il.ThroughputBenchmark(make())
    bench.add_input(torch.zeros(10_000))
    bench.benchmark(num_calling_threads=4, num_warmup_iters=0, num_iters=1000)


def test_8_the_input_order_is_seeded():
    orders = []
    for seed in (1, 1, 2):
        bench = il.ThroughputBenchmark(models.NoOp(), seed=seed)
        for _ in range(5):
            bench.add_input(X)
        orders.append(bench.benchmark().result.log.input)
    assert np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], orders[2])


@pytest.mark.parametrize(
    "wrong",
    [{"num_iters": 0}, {"num_calling_threads": 0}, {"num_warmup_iters": -1}, {"num_iters": 1.5}],
)
def test_8_counts_out_of_range_are_refused_by_name(wrong):
    bench = il.ThroughputBenchmark(models.NoOp())
    bench.add_input(X)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        bench.benchmark(**wrong)


@pytest.mark.slow
@pytest.mark.native
def test_10_an_aoti_package_is_called_without_the_gil(package: Path):
    bench = il.ThroughputBenchmark(package)
    bench.add_input(torch.zeros(1, 8))
    stats = bench.benchmark(num_calling_threads=2)
    assert stats.result.spec.executor == "native"


def test_11_percentiles_json_and_environment_stand_behind_the_stats(tmp_path: Path):
    bench = il.ThroughputBenchmark(models.NoOp())
    bench.add_input(X)
    result = bench.benchmark(num_iters=400).result
    assert result.summary.response_ms.p50.value > 0
    assert result.environment["torch"] == torch.__version__
    result.save(tmp_path / "r.json")
    assert il.load_result(tmp_path / "r.json").summary.completed_calls == 400
