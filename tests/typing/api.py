"""What type checkers know of the public names; read by mypy and pyright (`make lint`), never run.

A line with ``type: ignore`` is a wrong use: both complain if it were accepted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from typing_extensions import assert_type

import inferload as il
import inferload.compat
from inferload.records.figures import RankFigures
from inferload.studies.records.files import Study

MODEL = torch.nn.Linear(4, 2)
INPUTS = [torch.zeros(1, 4)]


def a_run_is_a_result() -> None:
    assert_type(il.run(MODEL, INPUTS), il.RunResult)
    assert_type(il.run("model.py:small", "1x4:float32", calls=10), il.RunResult)
    assert_type(il.run(MODEL, INPUTS, load=il.ClosedLoop(callers=2), duration_s=1), il.RunResult)
    assert_type(il.run(MODEL, INPUTS, load=il.OpenLoop.poisson(50.0)), il.RunResult)
    il.run(MODEL, INPUTS, limit=["p99<=20ms", il.Limit(figure="errors", bound=0.01)])
    clients = il.ClosedLoop(callers=2, clients=64, think_s=0.05, think="constant")
    batching = il.Batching(max_batch=8, max_delay_s=0.002, pad={"ids": 0}, sizes_allowed=(1, 8))
    assert_type(il.run(MODEL, INPUTS, load=clients, batching=batching), il.RunResult)
    assert_type(il.run(il.Mix({"a": (MODEL, INPUTS, 1.0)}), device="cuda:0"), il.RunResult)
    assert_type(il.run(MODEL, INPUTS, device=["cuda:0", torch.device("cuda", 1)]), il.RunResult)


def a_target_is_a_model(target: il.Target) -> None:
    assert_type(target.name, str)
    assert_type(il.run(target, INPUTS), il.RunResult)


def wrong_words_of_a_run() -> None:
    il.run()  # type: ignore[call-arg]
    il.run(MODEL, INPUTS, 4)  # type: ignore[call-arg,arg-type]
    il.run(MODEL, INPUTS, callers=4)  # type: ignore[call-arg]
    il.run(MODEL, INPUTS, calls="many")  # type: ignore[arg-type]
    il.run(MODEL, INPUTS, duration_s="1s")  # type: ignore[arg-type]
    il.run(MODEL, INPUTS, load=4)  # type: ignore[arg-type]
    il.run(MODEL, INPUTS, batching=8)  # type: ignore[arg-type]
    il.Batching(max_delay_s=0.002)  # type: ignore[call-arg]
    il.run(MODEL, INPUTS, executor=4)  # type: ignore[arg-type]


def figures_of_a_result(result: il.RunResult) -> None:
    assert_type(result.status, str)
    assert_type(result.spec, il.RunSpec)
    assert_type(result.spec.callers, int)
    assert_type(result.spec.rate_per_s, float | None)
    assert_type(result.environment, dict[str, Any])
    assert_type(result.set_up, il.SetUp)
    assert_type(result.set_up.harness_ms, float | None)
    assert_type(result.warnings, tuple[il.RunWarning, ...])
    assert_type(result.warnings[0].hint, str)
    assert_type(result.steady, il.SteadyState | None)
    assert_type(result.limits, tuple[il.LimitVerdict, ...])
    assert_type(result.load_stages, tuple[il.LoadStage, ...])
    assert_type(result.load_stages[0].behind_at_per_s, float | None)
    assert_type(result.verification, il.Verification | None)
    assert_type(result.processes, tuple[il.ProcessFigures, ...])
    assert_type(result.processes[0].memory, il.MemoryUse | None)
    assert_type(result.processes[0].cpu, il.CpuUse | None)
    assert_type(result.processes[0].ending, il.Ending | None)
    assert_type(result.ranks, tuple[RankFigures, ...])
    assert_type(result.models, tuple[il.ModelFigures, ...])
    assert_type(result.spec.models, tuple[il.ModelShare, ...])
    assert_type(result.summary.pieces, il.PieceFigures | None)
    assert_type(result.log.piece_times, il.PieceTimes | None)
    assert_type(il.Piece("words", tokens=3).tokens, int)
    assert_type(result.devices, tuple[il.DeviceFigures, ...])
    assert_type(result.made_by, str | None)
    assert_type(result.save("run.json"), None)
    assert_type(result.save(Path("run.json")), None)
    result.status = "complete"  # type: ignore[misc]
    result.nothing_like_this  # type: ignore[attr-defined]


def figures_of_a_summary(summary: il.Summary) -> None:
    assert_type(summary.completed_calls, int)
    assert_type(summary.batches, il.BatchFigures | None)
    assert_type(summary.throughput_calls_per_s, il.Estimate)
    assert_type(summary.throughput_calls_per_s.value, float)
    assert_type(summary.throughput_calls_per_s.low, float | None)
    assert_type(summary.response_ms, il.Distribution | None)
    assert_type(summary.lateness_ms, il.Distribution | None)
    assert_type(summary.stages, il.StageFigures | None)
    assert_type(summary.overload, il.Overload | None)
    summary.response_ms.p99  # type: ignore[union-attr]
    if summary.response_ms is not None:
        assert_type(summary.response_ms.mean, float)
        assert_type(summary.response_ms.p99, il.Estimate | None)
        assert_type(summary.response_ms.quantile(0.999), float)


def the_log(log: il.CallLog) -> None:
    assert_type(len(log), int)
    assert_type(log.errors, tuple[il.CallFailure, ...])
    assert_type(log.tally, il.CallTally | None)
    assert_type(log.open_loop, bool)
    assert_type(log.finished_ns.tolist()[0], Any)


def loads() -> None:
    assert_type(il.ClosedLoop(), il.ClosedLoop)
    assert_type(il.OpenLoop.constant(100, callers=2), il.OpenLoop)
    assert_type(il.OpenLoop.poisson(100.0, seed=1), il.OpenLoop)
    assert_type(il.OpenLoop.gamma(100.0, burstiness=0.5), il.OpenLoop)
    assert_type(il.OpenLoop.replay("times.txt", speed=2.0), il.OpenLoop)
    assert_type(il.OpenLoop.replay([0.0, 0.1]), il.OpenLoop)
    server = il.Server("http://127.0.0.1:8080/predict", headers={"X-Tenant": "a"})
    asked = il.run(server, ["text:8"])
    assert_type(asked.failures, tuple[il.FailureFigures, ...])
    assert_type(asked.servers, tuple[il.ServerFigures, ...])
    assert_type(asked.servers[0].reached, il.Reached | None)
    said = asked.servers[0].said
    assert_type(said, il.ServerSaid | None)
    if said is not None:
        assert_type(said.metrics, tuple[il.SaidMetric, ...])
        assert_type(said.statistics, il.ModelStatistics | None)
        assert_type(il.ModelStatistics().queue, il.SaidTime)
    assert_type(asked.spec.servers, tuple[il.ServerSpec, ...])
    assert_type(asked.spec.servers[0].model, il.ServerModel | None)
    ramp = il.Stage(rate_per_s=50, to_per_s=500.0, duration_s=60)
    assert_type(il.OpenLoop.staged([ramp], arrivals="constant", callers=2), il.OpenLoop)
    il.Stage(rate_per_s=50)  # type: ignore[call-arg]
    il.OpenLoop.staged("50..500/60s")  # type: ignore[arg-type]
    il.ClosedLoop(4)  # type: ignore[call-arg]
    il.ClosedLoop(callers="4")  # type: ignore[arg-type]
    il.OpenLoop.poisson()  # type: ignore[call-arg]
    il.OpenLoop.gamma(100.0)  # type: ignore[call-arg]
    il.OpenLoop.constant("100/s")  # type: ignore[arg-type]


def studies() -> None:
    assert_type(il.sweep(MODEL, INPUTS, callers=(1, 2), blocks=2), il.Sweep)
    assert_type(il.sweep(MODEL, INPUTS, forms="script", duration_s=0.5), il.Sweep)
    assert_type(il.find_max_rate(MODEL, INPUTS, "p99<=20ms"), il.MaxRate)
    assert_type(
        il.find_max_rate(MODEL, INPUTS, [il.Limit(figure="p99", bound=20.0), "errors<=1%"]),
        il.MaxRate,
    )
    assert_type(il.tune(MODEL, INPUTS, limit="p99<=20ms", cores=2), il.Tuning)
    assert_type(il.compare(MODEL, MODEL, INPUTS, gates="p99 +5%"), il.Comparison)
    assert_type(il.compare(MODEL, MODEL, INPUTS, precision=0.02, time_limit_s=60), il.Comparison)
    assert_type(il.compare("before.json", "after.json"), il.Comparison)
    assert_type(il.compare(MODEL, inputs=INPUTS, forms=("eager", "script")), il.Comparison)
    assert_type(il.explain(MODEL, INPUTS, load=il.ClosedLoop(callers=4)), il.Explanation)
    il.explain(MODEL, INPUTS, time_limit_s="2m")  # type: ignore[arg-type]
    assert_type(il.forecast("sweep.json", rates_per_s=50, replicas=(1, 2)), il.Forecast)
    assert_type(
        il.forecast(["one.json", "two.json"], limit="p99<=50ms", balancing="two-choices", lost=1),
        il.Forecast,
    )
    il.forecast("sweep.json", replicas="3")  # type: ignore[arg-type]
    il.sweep(MODEL, INPUTS, callers="1..4")  # type: ignore[arg-type]
    il.sweep(MODEL, INPUTS, blocks=None)  # type: ignore[arg-type]
    il.find_max_rate(MODEL, INPUTS)  # type: ignore[call-arg]
    il.find_max_rate(MODEL, INPUTS, 20)  # type: ignore[arg-type]
    il.tune(MODEL, INPUTS, limit=20)  # type: ignore[arg-type]
    il.compare(MODEL, MODEL, INPUTS, gates=0.05)  # type: ignore[arg-type]


def figures_of_studies(
    sweep: il.Sweep,
    found: il.MaxRate,
    tuned: il.Tuning,
    compared: il.Comparison,
    forecast: il.Forecast,
    explained: il.Explanation,
) -> None:
    assert_type(sweep.points, tuple[il.SweepPoint, ...])
    assert_type(sweep.peak, il.SweepPoint | None)
    assert_type(sweep.usl, il.UslFit | None)
    assert_type(sweep.runs, tuple[il.StudyRun, ...])
    assert_type(found.rate_per_s, float | None)
    assert_type(found.confirmed, bool)
    assert_type(found.probes, tuple[il.Probe, ...])
    assert_type(found.probes[0].judgements, tuple[il.Judgement, ...])
    assert_type(found.limits, tuple[il.Limit, ...])
    assert_type(tuned.best, il.Settings | None)
    assert_type(tuned.trials, tuple[il.Trial, ...])
    assert_type(tuned.confirmations, tuple[il.Confirmation, ...])
    assert_type(tuned.margin, il.Comparison | None)
    assert_type(compared.differences, tuple[il.Difference, ...])
    assert_type(compared.differences[0].verdict, str)
    assert_type(compared.crossed, tuple[il.Gate, ...])
    assert_type(explained.tried, tuple[il.Effect, ...])
    assert_type(explained.effect("callers-twice"), il.Effect | None)
    assert_type(explained.used, il.PerCall | None)
    assert_type(explained.traced, il.Traced | None)
    if explained.traced is not None:
        assert_type(explained.traced.operators, tuple[il.Operator, ...])
    assert_type(explained.work, il.Work | None)
    assert_type(forecast.points, tuple[il.ForecastPoint, ...])
    assert_type(forecast.points[0].p99_ms, il.Estimate | None)
    assert_type(forecast.points[0].checked, il.CheckedPoint | None)
    assert_type(forecast.needed, tuple[il.Needed, ...])
    assert_type(forecast.service, tuple[il.ServiceLevel, ...])
    assert_type(sweep.runs[0].services, tuple[il.ServiceProfile, ...])
    found.rate_per_s + 1  # type: ignore[operator]


def saved() -> None:
    assert_type(il.load_result("run.json"), il.RunResult)
    assert_type(il.load_study(Path("sweep.json")), Study)
    result = il.load_result(Path("run.json"))
    assert_type(il.export(result, "run.csv"), str | None)
    assert_type(il.certificate(result, "p99", 20.0), il.Certificate)
    assert_type(il.certificate(result, "p99", 20.0).certified, bool)
    il.load_result(1)  # type: ignore[arg-type]
    il.export("run.json", "run.csv")  # type: ignore[arg-type]


def captured() -> None:
    capture = il.capture(MODEL, "inputs.safetensors", limit=10)
    assert_type(capture, il.Capture)
    with capture as kept:
        assert_type(kept, il.Capture)
        assert_type(kept.kept, int)
    assert_type(capture.skipped, dict[str, int])
    assert_type(il.CallInput((1,), {"scale": 2}), il.CallInput)
    il.capture(len, "inputs.safetensors")  # type: ignore[arg-type]


def the_drop_in() -> None:
    assert_type(inferload.compat.ThroughputBenchmark(MODEL), il.ThroughputBenchmark)
    bench = il.ThroughputBenchmark(MODEL, seed=1)
    assert_type(bench.add_input(INPUTS[0]), None)
    stats = bench.benchmark(num_calling_threads=2, num_warmup_iters=1, num_iters=10)
    assert_type(stats, il.ExecutionStats)
    assert_type(stats.latency_avg_ms, float)
    assert_type(stats.num_iters, int)
    assert_type(stats.result, il.RunResult)
    assert_type(stats.benchmark_config, il.BenchmarkConfig)
    assert_type(il.format_time(time_ms=4.2), str)
    bench.benchmark(num_iters="10")  # type: ignore[arg-type]
    il.ThroughputBenchmark()  # type: ignore[call-arg]


def errors(
    call: il.CallError, crash: il.TargetCrashed, study: il.StudyInterrupted, run: il.RunInterrupted
) -> None:
    caught: tuple[il.InferloadError, ...] = (call, crash, il.NativeBuildError(), il.PlanError())
    ended: tuple[KeyboardInterrupt, ...] = (run, study)
    both: tuple[ValueError, ...] = (il.PlanError(), il.ResultFormatError())
    assert_type((caught, ended, both)[0][0].args, tuple[Any, ...])
    assert_type(call.caller, int | None)
    assert_type(call.result, il.RunResult | None)
    assert_type(crash.result, il.RunResult | None)
    assert_type(run.result, il.RunResult)
    assert_type(study.study, Study)
