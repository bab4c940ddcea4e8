"""Python callers make the same calls whether the extension or Python goes from one to the next."""

from __future__ import annotations

import threading
import time
import traceback

import numpy as np
import pytest
import torch

import inferload as il
from inferload.callers.native.build import native_extension
from inferload.callers.python import caller as python_caller

BOTH = pytest.mark.parametrize("compiled", [True, False], ids=["extension", "Python"])


@pytest.fixture(autouse=True)
def _by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """Have the calls made by what the test is a case of, and nothing else."""
    compiled = request.node.callspec.params["compiled"]
    native_extension()
    if not compiled:
        monkeypatch.setattr("inferload.callers.local.executors.built_extension", lambda: None)
    real, made = python_caller.PythonCaller._call_loop, []

    def loop(*given):
        made.append(given)
        return real(*given)

    monkeypatch.setattr(python_caller.PythonCaller, "_call_loop", loop)
    yield
    assert bool(made) is not compiled


class Picky(torch.nn.Module):
    """Raises for what is below zero, in a line of its own."""

    def forward(self, x):
        return self.looked_at(x)

    def looked_at(self, x):
        if x.item() < 0:
            raise ValueError(f"{x.item()} is below zero")
        return x + 1


@BOTH
def test_each_call_has_its_row(compiled: bool):
    inputs = [torch.tensor(float(n)) for n in range(5)]
    result = il.run(Picky(), inputs, load=il.ClosedLoop(callers=3), calls=4000, seed=5)
    log = result.log
    assert len(log) == 4000
    assert set(np.unique(log.caller)) == {0, 1, 2}
    assert np.bincount(log.input).tolist() == [800] * 5
    assert (log.error == -1).all()
    assert (log.scheduled_ns == log.started_ns).all()
    assert (log.finished_ns > log.started_ns).all()
    for number in range(3):  # a caller's calls come one after another
        mine = log.caller == number
        order = np.argsort(log.started_ns[mine])
        assert (log.started_ns[mine][order][1:] >= log.finished_ns[mine][order][:-1]).all()


@BOTH
def test_a_failure_is_told_with_its_place_and_ends_the_run(compiled: bool):
    inputs = [torch.tensor(1.0), torch.tensor(-2.0)]
    with pytest.raises(il.CallError, match=r"-2.0 is below zero") as caught:
        il.run(Picky(), inputs, calls=1000, warmup_calls=0)
    assert caught.value.input == 1
    assert "test_python_rows.py" in str(caught.value.place)
    frames = traceback.extract_tb(caught.value.__cause__.__traceback__)
    assert "looked_at" in [frame.name for frame in frames]
    assert caught.value.result.summary.failed_calls == 1


@BOTH
def test_failures_are_counted_where_the_run_goes_on(compiled: bool):
    inputs = [torch.tensor(1.0), torch.tensor(-2.0)]
    result = il.run(Picky(), inputs, calls=1000, warmup_calls=0, on_error="record")
    log = result.log
    assert result.summary.failed_calls == 500
    assert ((log.error >= 0) == (log.input == 1)).all()


@BOTH
def test_outputs_are_kept_for_comparison(compiled: bool):
    class Drifts(torch.nn.Module):
        calls = 0

        def forward(self, x):
            Drifts.calls += 1
            return x + (1.0 if Drifts.calls > 60 else 0.0)

    result = il.run(Drifts(), [torch.ones(2)], calls=200, warmup_calls=2, verify=True)
    assert result.verification is not None
    assert result.verification.compared > 1
    assert result.verification.differing


@BOTH
def test_answers_of_several_classes_are_brought_to_their_end(compiled: bool):
    """A generator now and then, which is used up within its call."""
    used = []

    def answers(x):
        if x.item() > 0:
            return x

        def pieces():
            for number in range(3):
                used.append(number)
                yield torch.tensor(number)

        return pieces()

    result = il.run(answers, [torch.tensor(1.0), torch.tensor(0.0)], calls=300, warmup_calls=4)
    pieces = result.log.pieces[result.log.input == 1]
    assert (pieces == 3).all()
    assert len(used) >= 450


@BOTH
def test_a_run_ends_at_its_time(compiled: bool):
    result = il.run(Picky(), [torch.tensor(1.0)], load=il.ClosedLoop(callers=2), duration_s=0.2)
    log = result.log
    assert result.status == "complete"
    assert sum(log.finished_ns > 0.2e9) <= 2  # the last one of each caller


@BOTH
def test_an_exit_of_the_model_is_its_failure(compiled: bool):
    class Leaves(torch.nn.Module):
        calls = 0

        def forward(self, x):
            Leaves.calls += 1
            if Leaves.calls > 20:
                raise SystemExit("enough")
            return x

    with pytest.raises(il.CallError, match="enough"):
        il.run(Leaves(), [torch.ones(1)], calls=1000, warmup_calls=2)


@BOTH
def test_other_threads_run_between_calls(compiled: bool):
    """Calls of a function in C hold the GIL for no longer than a range of rows."""
    looked, over = [], threading.Event()

    def look() -> None:
        while not over.is_set():
            looked.append(time.perf_counter())
            time.sleep(0.001)

    other = threading.Thread(target=look)
    other.start()
    try:
        il.run(torch.nn.Identity(), [torch.ones(1)], calls=300_000)
    finally:
        over.set()
        other.join()
    assert max(np.diff(looked)) < 0.5
    assert len(looked) > 20
