"""Captured calls are replayed when they came, each with the input that came with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import inferload as il
from inferload.cli.request.asked import Asked
from inferload.cli.request.run_file import read_run_file
from inferload.plan.arrivals.load_words import captured_in, load_from_text
from inferload.targets.inputs import capture as capturing
from inferload.targets.inputs.given import as_call_inputs
from inferload.targets.inputs.safetensors_file import packed, write_inputs

ARRIVALS_S = [100.0, 100.004, 100.005, 100.02, 100.021, 100.021, 100.03]


def captured(folder: Path, seen: int = len(ARRIVALS_S)) -> Path:
    path = folder / "calls.safetensors"
    inputs = [packed((torch.full((1, 2), float(n)),), {}, 1) for n in range(len(ARRIVALS_S))]
    write_inputs(path, inputs, ARRIVALS_S, seen)
    return path


def due_at(result: il.RunResult) -> dict[int, float]:
    """By input: when its call was due, in milliseconds."""
    log = result.log
    return dict(zip(log.input.tolist(), (log.scheduled_ns / 1e6).round(3).tolist(), strict=True))


EXPECTED = {n: round(1e3 * (one - 100.0), 3) for n, one in enumerate(ARRIVALS_S)}


def test_a_capture_keeps_when_its_calls_came_in_their_order(tmp_path, monkeypatch):
    now = iter(np.arange(1000) * 0.25 + 7)
    monkeypatch.setattr(capturing.time, "monotonic", lambda: float(next(now)))
    model = torch.nn.Identity()
    with il.capture(model, tmp_path / "a.safetensors", limit=8) as found:
        for number in range(50):
            model(torch.tensor([float(number)]))
    load = il.OpenLoop.replay(tmp_path / "a.safetensors")
    assert (load.recording.kept, load.recording.seen, found.seen) == (8, 50, 50)
    assert (np.diff(load.times_s) > 0).all()
    numbers = [float(one.args[0]) for one in as_call_inputs([str(tmp_path / "a.safetensors")])]
    assert numbers == sorted(numbers)
    assert "a sample of one call in 6.25," in str(load)


def test_each_call_takes_the_input_that_came_with_its_time(tmp_path):
    path = captured(tmp_path)
    load = il.OpenLoop.replay(path, callers=2)
    for inputs in (None, [str(path)]):
        result = il.run(torch.nn.Identity(), inputs, load=load)
        assert due_at(result) == EXPECTED
        assert result.spec.paired
    said = " ".join(str(result).split())
    assert "replay of calls.safetensors" in said
    assert "inputs 7, each at the time at which it came: 1x2:float32" in said


def test_also_twice_as_fast_some_of_them_or_given_in_another_order(tmp_path):
    path = captured(tmp_path)
    load = load_from_text(f"replay:{path}:2x", None, 1, 0)
    assert load.recording.speed == 2.0
    result = il.run(torch.nn.Identity(), None, load=load, calls=5)
    assert due_at(result) == {n: round(EXPECTED[n] / 2, 3) for n in range(5)}
    assert "replay of calls.safetensors at 2x" in result.spec.load
    turned = as_call_inputs([str(path)])[::-1]
    result = il.run(torch.nn.Identity(), turned, load=il.OpenLoop.replay(path))
    assert due_at(result) == {6 - n: at_ms for n, at_ms in EXPECTED.items()}


def test_processes_keep_the_pairs(tmp_path):
    whole = il.OpenLoop.replay(captured(tmp_path)).schedule(None, None)
    parts = whole.dealt(3, seed=4)
    assert sorted(np.concatenate([one.rows for one in parts]).tolist()) == list(range(7))
    for one in parts:
        assert np.array_equal(whole.times_ns[one.rows], one.times_ns)


@pytest.mark.multiprocess
def test_so_do_runs_of_several_processes(tmp_path):
    path = captured(tmp_path)
    result = il.run(torch.nn.Identity(), None, load=il.OpenLoop.replay(path), processes=2)
    assert due_at(result) == EXPECTED
    assert set(result.log.process.tolist()) == {0, 1}


def test_other_inputs_are_dealt_as_ever(tmp_path):
    path = captured(tmp_path)
    load = il.OpenLoop.replay(path)
    some = as_call_inputs([str(path)])[:6]
    for inputs in (some, [torch.zeros(1, 2)]):
        result = il.run(torch.nn.Identity(), inputs, load=load)
        assert not result.spec.paired
        assert (np.bincount(result.log.input) <= 7 // len(inputs) + 1).all()
        assert "at the time at which it came" not in str(result)


def test_the_models_of_a_mix_are_drawn_by_their_weights(tmp_path):
    path = captured(tmp_path)
    model, own = torch.nn.Identity(), [torch.ones(1)]
    mix = il.Mix({"a": (model, [str(path)], 0.5), "b": (model, own, 0.5)})
    result = il.run(mix, load=il.OpenLoop.replay(path))
    assert not result.spec.paired
    assert {one.completed_calls for one in result.models} == {3, 4}


def test_the_command_line_takes_inputs_and_times_from_one_file(tmp_path):
    path = captured(tmp_path)
    words = {"arrivals": f"replay:{path}:3x"}
    assert captured_in(words["arrivals"]) == path
    assert captured_in("replay:times.csv") is captured_in("poisson") is captured_in(None) is None
    assert Asked(model="m.py", words=words).source().input_texts == (str(path),)
    given = Asked(model="m.py", words=words | {"inputs": ["1x2"]})
    assert given.source().input_texts == ("1x2",)
    file = tmp_path / "run.toml"
    file.write_text('model = "m.py"\narrivals = "replay:calls.safetensors"\n')
    asked = Asked(model="m.py", words=read_run_file(file).options())
    assert asked.options().load.recording.path == str(path)
    assert asked.source().input_texts == (str(path),)


def test_files_of_before_have_inputs_and_no_times(tmp_path):
    path = captured(tmp_path)
    tensors = load_file(path)
    with safe_open(path, "pt") as opened:
        metadata = opened.metadata()
    del tensors["arrivals_s"], metadata["seen"]
    save_file(tensors, path, metadata)
    assert len(as_call_inputs([str(path)])) == 7
    with pytest.raises(il.PlanError, match="did not keep when calls came: capture again, or"):
        il.OpenLoop.replay(path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda _: None, "there is no file .*x.safetensors to replay"),
        (lambda path: path.write_bytes(b"\x09" * 40), "is damaged, or no safetensors"),
        (lambda path: save_file({"a": torch.ones(1)}, path), "has no captured calls"),
    ],
)
def test_what_is_no_capture_is_refused_in_a_sentence(tmp_path, make, words):
    make(tmp_path / "x.safetensors")
    with pytest.raises(il.PlanError, match=words):
        il.OpenLoop.replay(tmp_path / "x.safetensors")
