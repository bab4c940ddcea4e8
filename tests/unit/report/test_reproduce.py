"""What a report prints to make a run again makes that run: its Python is run here."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import fields, replace

import pytest
import torch

import inferload as il
from inferload.callers.python.executor import ThreadsExecutor
from inferload.plan.options import RunOptions
from inferload.report.text.reproduce import reproduction
from inferload.runs.saved import load_result

INPUTS = [torch.zeros(1, 4), torch.ones(1, 4)]
ARRIVALS_S = [0.0, 0.002, 0.003, 0.01, 0.012]


def linear() -> torch.nn.Module:
    """The same model each time: a result knows its model by its weights."""
    torch.manual_seed(0)
    return torch.nn.Linear(4, 4).eval()


class Named(ThreadsExecutor):
    """An executor of the user's own."""

    name = "my own"


RUNS: dict[str, dict[str, object]] = {
    "plain": {},
    "a closed loop": {"load": il.ClosedLoop(callers=3), "calls": 30, "seed": 7},
    "for a time": {"duration_s": 0.02, "warmup_calls": 3},
    "all of a time": {"duration_s": 0.02, "warmup": "fixed"},
    "cut by itself": {"calls": 40, "warmup": "auto", "warmup_calls": 0},
    "by precision": {"precision": 0.5, "quantile": "p50", "time_limit_s": 0.4},
    "even arrivals": {"load": il.OpenLoop.constant(500, callers=2, drain_s=3), "calls": 20},
    "random arrivals": {"load": il.OpenLoop.poisson(812.5, seed=5, drain_s=0.5), "calls": 20},
    "bursts": {"load": il.OpenLoop.gamma(500, burstiness=0.123456789, seed=9), "calls": 20},
    "a replay": {"load": il.OpenLoop.replay(ARRIVALS_S, callers=2, drain_s=7)},
    "stages": {
        "load": il.OpenLoop.staged(
            [
                il.Stage(rate_per_s=300, duration_s=0.03),
                il.Stage(rate_per_s=300, to_per_s=1234.5678, duration_s=0.02),
            ],
            arrivals="constant", callers=2, drain_s=4,
        ),
    },
    "random stages": {
        "load": il.OpenLoop.staged([il.Stage(rate_per_s=900, duration_s=0.1)], seed=5), "calls": 20,
    },
    "limits": {"calls": 20, "limit": ["p99.9<=1.5s", "errors<=0.1%", "throughput>=0.5"]},
    "threads asked for": {"executor": "threads", "calls": 20},
    "an executor of one's own": {"executor": Named(), "calls": 20},
    "all that is seldom": {
        "calls": 20, "on_error": "record", "verify": True, "timeout_s": 5.0, "share_inputs": True,
        "telemetry": False, "threads_per_call": 1, "compare": False,
    },
    "inputs of its own for each call": {"calls": 20, "fresh_inputs": True},
    "pinned": {"calls": 20, "pin": "cores"},
    "another form": {"form": "script", "calls": 20, "executor": "threads"},
    "batches": {"batch_size": 2, "calls": 20},
    "clients": {"load": il.ClosedLoop(callers=2, clients=5), "calls": 20},
    "clients that think": {
        "load": il.ClosedLoop(clients=5, think_s=0.001, think="constant"), "calls": 20,
    },
    "requests in batches": {
        "load": il.OpenLoop.constant(2000, callers=2), "calls": 20,
        "batching": il.Batching(max_batch=4, max_delay_s=0.001, pad=0, sizes_allowed=(2, 4, 8)),
    },
    "padded by argument": {
        "load": il.OpenLoop.constant(2000), "calls": 20,
        "batching": il.Batching(max_batch=4, pad={"input": 0.5}),
    },
}  # fmt: skip
STATES = {
    "grad": [],
    "no grad": [torch.no_grad],
    "inference": [torch.inference_mode],
    "autocast": [torch.no_grad, lambda: torch.autocast("cpu", torch.bfloat16)],
}


def made_again(result: il.RunResult, model: object, **at_hand: object) -> il.RunResult:
    text = reproduction(result)
    names = {"model": model, "inputs": INPUTS, "arrivals_s": ARRIVALS_S, "__name__": "__main__"}
    names |= at_hand
    exec(compile(text, "printed", "exec"), names)  # noqa: S102 - it is what is tried
    return names["result"]


def as_saved(spec: il.RunSpec) -> dict[str, object]:
    return {one.name: getattr(spec, one.name) for one in fields(spec)}


@pytest.mark.parametrize("options", RUNS.values(), ids=RUNS)
def test_the_python_that_is_printed_makes_the_same_run(options: dict, tmp_path):
    with torch.no_grad():
        result = il.run(linear(), INPUTS, **options)
    result.save(tmp_path / "run.json")
    again = made_again(
        load_result(tmp_path / "run.json"),
        linear(),
        executor=options.get("executor"),
    )
    assert as_saved(again.spec) == as_saved(result.spec)


def test_captured_calls_are_replayed_again_from_their_file(tmp_path):
    path, model = tmp_path / "calls.safetensors", linear()
    with torch.no_grad(), il.capture(model, path):
        for one in INPUTS:
            model(one)
    with torch.no_grad():
        result = il.run(linear(), None, load=il.OpenLoop.replay(path, speed=0.5, drain_s=2))
    assert result.spec.paired
    again = made_again(result, linear())
    assert as_saved(again.spec) == as_saved(result.spec)


@pytest.mark.parametrize("name", STATES)
def test_the_state_of_the_calling_thread_is_printed_as_what_enters_it(name: str):
    with ExitStack() as stack:
        for state in STATES[name]:
            stack.enter_context(state())
        result = il.run(linear(), INPUTS, calls=10)
    again = made_again(result, linear())
    assert as_saved(again.spec) == as_saved(result.spec)


@pytest.mark.multiprocess
def test_so_are_processes():
    load = il.OpenLoop.poisson(500, callers=2, seed=3, drain_s=4)
    with torch.no_grad():
        result = il.run(linear(), INPUTS, load=load, processes=2, calls=20)
    again = made_again(result, linear())
    assert as_saved(again.spec) == as_saved(result.spec)


@pytest.mark.parametrize("callers", [None, {"a": 2, "b": 1}])
def test_so_are_mixes_whose_models_have_inputs_and_may_have_callers(callers):
    mix = il.Mix(
        {
            "a": (linear(), INPUTS, 2.0),
            "b": (linear(), INPUTS, 1.0),
        },
        callers=callers,
    )
    result = il.run(mix, load=il.OpenLoop.poisson(500, seed=3), calls=40)
    again = made_again(result, mix)
    assert as_saved(again.spec) == as_saved(result.spec)


def test_every_option_of_a_run_is_printed_or_kept_out_on_purpose():
    """A new option belongs into the printed Python, and into RUNS above."""
    of_a_cluster = {"rank", "ranks", "local_rank", "local_ranks", "calls_of_all"}
    of_studies, of_the_output = {"decide"}, {"trace"}
    of_the_command_line, of_a_server = {"mode", "keep_in"}, {"of_server"}
    of_a_mix, on_devices = {"lanes"}, {"devices", "streams", "completion", "transfers"}
    tried = {name for options in RUNS.values() for name in options} | {"processes"}
    known = {one.name for one in fields(RunOptions)}
    assert known == tried | of_a_cluster | of_studies | of_the_output | of_a_mix | on_devices | (
        of_the_command_line | of_a_server
    )


def test_what_calls_on_devices_had_is_printed():
    result = il.run(linear(), INPUTS, calls=10)
    own = {"devices": ("cuda:0", "cuda:1"), "streams": "shared", "completion": "event"}
    spec = replace(result.spec, transfers=True, isolated=True, processes=2, callers=4, **own)
    text = reproduction(replace(result, spec=spec))
    for said in ('device=["cuda:0", "cuda:1"],', 'streams="shared",', 'completion="event",',
                 "transfers=True,", "processes=2,", "load=il.ClosedLoop(callers=2),"):  # fmt: skip
        assert said in text
    assert 'device="cuda:0",' in reproduction(
        replace(result, spec=replace(spec, devices=("cuda:0",)))
    )


def test_of_a_result_older_than_its_fields_the_words_of_the_load_are_read(tmp_path):
    load = il.OpenLoop.gamma(500, burstiness=0.5)
    result = il.run(linear(), INPUTS, load=load, calls=10)
    result.save(tmp_path / "run.json")
    now = reproduction(load_result(tmp_path / "run.json"))
    old = json.loads((tmp_path / "run.json").read_text())
    for name in ("arrivals", "burstiness", "load_seed"):
        del old["spec"][name]
    old["schema_version"] = 5
    (tmp_path / "run.json").write_text(json.dumps(old))
    assert reproduction(load_result(tmp_path / "run.json")) == now


def test_a_name_that_is_code_stays_a_comment():
    result = il.run(linear(), INPUTS, calls=10)
    spec = replace(result.spec, target="x\nraise SystemExit(9)")
    assert made_again(replace(result, spec=spec), linear()).status == "complete"
