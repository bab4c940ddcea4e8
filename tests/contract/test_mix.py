"""Several models in one run: their shares, figures, and callers of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import inferload as il
from inferload.log.calls import CallLog
from support import models

SIZED = [torch.randn(batch, 8) for batch in (1, 2, 3)]


def mixed(*, native: bool) -> il.Mix:
    mlp, no_op = models.mlp(), models.NoOp()
    if native:
        mlp, no_op = torch.jit.script(mlp), torch.jit.script(no_op)
    return il.Mix({"ranker": (mlp, SIZED, 0.75), "echo": (no_op, [torch.ones(5)], 0.25)})


@pytest.mark.parametrize("processes", [None, pytest.param(2, marks=pytest.mark.multiprocess)])
@pytest.mark.parametrize("native", [False, pytest.param(True, marks=pytest.mark.native)])
def test_every_model_has_its_share_its_figures_and_its_verification(native, processes, tmp_path):
    mix = mixed(native=native)
    # other tests have called the same graph with gradients, which inference mode does not forgive
    with torch.no_grad():
        result = il.run(
            mix,
            load=il.ClosedLoop(callers=2),
            calls=2000,
            processes=processes,
            threads_per_call=1,
            verify=True,
        )
    assert result.spec.executor == ("native" if native else "threads")
    log = result.log
    ranker, echo = result.models
    assert (ranker.name, echo.name) == ("ranker", "echo")
    assert ranker.completed_calls + echo.completed_calls == len(log) == 2000
    assert ranker.completed_calls == int((log.input < 3).sum())
    assert abs(ranker.completed_calls - 1500) <= 8 * (processes or 1)
    for one, mine in ((ranker, log.input < 3), (echo, log.input == 3)):
        values = np.sort(log.response_ns[mine])
        assert one.response_ms.quantile(0.9) == values[-(-9 * len(values) // 10) - 1] / 1e6
        assert one.verification.differing == 0
        assert one.verification.compared > 5
    total = sum(one.throughput_calls_per_s.value for one in result.models)
    assert total == pytest.approx(result.summary.throughput_calls_per_s.value)
    assert result.verification.compared == sum(one.verification.compared for one in result.models)
    result.save(tmp_path / "r.json")
    again = il.load_result(tmp_path / "r.json")
    assert str(again) == str(result)
    assert again.models[1].response_ms.quantile(0.9) == echo.response_ms.quantile(0.9)


@pytest.mark.native
@pytest.mark.slow
def test_a_package_and_a_script_are_called_without_the_gil_together(package: Path):
    echo = torch.jit.script(models.NoOp())
    mix = il.Mix({"package": (str(package), SIZED, 1), "echo": (echo, [torch.ones(2)], 1)})
    with torch.inference_mode():
        result = il.run(mix, load=il.ClosedLoop(callers=2), calls=400, verify=True)
    assert result.spec.executor == "native"
    assert result.spec.form == "aoti + script"
    assert [one.verification.differing for one in result.models] == [0, 0]


def test_an_open_loop_of_a_mix_keeps_its_times_and_counts_failures_by_model():
    inputs = [torch.ones(1), -torch.ones(1)]
    mix = il.Mix(
        {"fails": (models.RaisesOnNegative(), inputs, 1), "echo": (models.NoOp(), SIZED, 1)}
    )
    load = il.OpenLoop.poisson(2000, callers=2, seed=3)
    result = il.run(mix, load=load, calls=800, on_error="record")
    assert (result.log.scheduled_ns == load.schedule(800, None).times_ns).all()
    fails, echo = result.models
    assert fails.failed_calls == result.summary.failed_calls > 100
    assert echo.failed_calls == 0
    assert "failed" in str(result)


def test_wrong_outputs_are_found_in_the_model_that_has_them():
    mix = il.Mix(
        {
            "shares": (models.sharing_a_buffer(4), [torch.zeros(2000), torch.ones(2000)], 1),
            "mlp": (models.mlp(), SIZED, 1),
        }
    )
    with torch.inference_mode():
        result = il.run(mix, load=il.ClosedLoop(callers=4), calls=400, warmup_calls=0, verify=True)
    shares, mlp = result.models
    assert shares.verification.differing > 0
    assert mlp.verification.differing == 0


def test_an_input_that_does_not_fit_names_its_model():
    script = torch.jit.script(models.NoOp())
    with pytest.raises(il.PlanError, match="echo: input 0 does not fit"):
        il.run(il.Mix({"a": (models.NoOp(), SIZED, 1), "echo": (script, [(1, 2, 3)], 1)}), calls=5)
    with pytest.raises(il.PlanError, match="a mix has inputs of its own"):
        il.run(mixed(native=False), SIZED, calls=5)


def lateness_ns(log: CallLog, callers: int) -> np.ndarray:
    """How long after it was due and one of so many callers was free each call began."""
    ended = np.sort(log.finished_ns)
    free = np.concatenate([np.zeros(callers), ended])[: len(log)]
    return log.started_ns - np.maximum(log.scheduled_ns, free)


def dedicated(**callers: int) -> il.Mix:
    slow, fast = models.Held(20), models.Released()
    return il.Mix(
        {"slow": (slow, [torch.ones(1)], 0.5), "fast": (fast, SIZED, 0.5)}, callers=callers
    )


@pytest.mark.parametrize("processes", [None, pytest.param(2, marks=pytest.mark.multiprocess)])
def test_a_model_with_callers_of_its_own_does_not_wait_for_a_slow_one(processes, tmp_path):
    # the first call of the slow model is held until 20 of the fast one were made since
    load = il.OpenLoop.poisson(200 * (processes or 1), seed=5)
    result = il.run(
        dedicated(slow=1, fast=2),
        load=load,
        calls=150 * (processes or 1),
        processes=processes,
        warmup_calls=0,
    )
    log, spec = result.log, result.spec
    assert (np.sort(log.scheduled_ns) == load.schedule(spec.calls, None).times_ns).all()
    slow = log.input == 0
    assert set(log.caller[slow] % 3) == {0}
    assert set(log.caller[~slow] % 3) <= {1, 2}
    assert abs(int(slow.sum()) - spec.calls / 2) <= 8 * (processes or 1)
    late = []
    for process in range(processes or 1):
        own = log.rows(log.process == process)
        slow = own.input == 0
        held = np.flatnonzero(slow)[0]
        meanwhile = (own.started_ns > own.started_ns[held]) & (
            own.finished_ns < own.finished_ns[held]
        )
        # the one that waits has finished when it was woken, and 20 others had called then
        assert np.count_nonzero(meanwhile & ~slow) >= 19
        assert not (meanwhile & slow).any()
        late += [lateness_ns(own.rows(slow), 1), lateness_ns(own.rows(~slow), 2)]
    # each queue has its own callers: that others are free is no lateness
    late_ms = np.concatenate(late) / 1e6
    assert result.summary.lateness_ms.mean == pytest.approx(late_ms.mean())
    assert result.summary.lateness_ms.max == pytest.approx(late_ms.max())
    assert "3 callers (1 slow + 2 fast)" in " ".join(str(result).split())
    result.save(tmp_path / "r.json")
    assert str(il.load_result(tmp_path / "r.json")) == str(result)


@pytest.mark.parametrize("processes", [None, pytest.param(2, marks=pytest.mark.multiprocess)])
@pytest.mark.parametrize("second", ["eager", pytest.param("script", marks=pytest.mark.native)])
def test_models_with_callers_of_their_own_share_a_number_of_calls_exactly(processes, second):
    echo = models.NoOp() if second == "eager" else torch.jit.script(models.NoOp())
    mix = il.Mix(
        {"mlp": (models.mlp(), SIZED, 3), "echo": (echo, [torch.ones(2)], 1)},
        callers={"mlp": 2, "echo": 1},
    )
    with torch.no_grad():
        result = il.run(mix, calls=20_000, processes=processes, verify=True, threads_per_call=1)
    log = result.log
    assert result.spec.callers == 3 * (processes or 1)
    assert result.spec.executor == ("threads" if second == "eager" else "threads + native")
    assert len(log) == 20_000
    assert [one.completed_calls for one in result.models] == [
        int((log.input < 3).sum()),
        int((log.input == 3).sum()),
    ]
    assert [one.verification.differing for one in result.models] == [0, 0]
    # native callers may have made all of the calls before a Python thread of the other model ran
    called = [one.completed_calls > 0 for one in result.models]
    assert [one.verification.compared > 0 for one in result.models] == called
    assert sum(one.completed_calls for one in result.processes) == 20_000
    assert any(one.code == "weights-unused" for one in result.warnings)


@pytest.mark.parametrize("processes", [None, pytest.param(2, marks=pytest.mark.multiprocess)])
def test_a_failure_of_one_model_ends_the_callers_of_the_other(processes):
    mix = il.Mix(
        {
            "echo": (models.NoOp(), SIZED, 1),
            "fails": (models.RaisesOnNegative(), [torch.ones(1), -torch.ones(1)], 1),
        },
        callers={"echo": 1, "fails": 1},
    )
    with pytest.raises(il.CallError, match=r"in caller 1 .*on input 4") as caught:
        il.run(mix, duration_s=30.0, warmup_calls=0, processes=processes)
    result = caught.value.result
    assert result.status == "failed"
    assert result.summary.failed_calls >= 1
    assert set(result.log.input[result.log.error >= 0]) == {4}
    assert result.models[1].failed_calls == result.summary.failed_calls


def test_wrong_outputs_name_the_input_by_its_number_in_the_mix():
    mix = il.Mix(
        {
            "mlp": (models.mlp(), SIZED, 1),
            "shares": (models.sharing_a_buffer(4), [torch.zeros(2000), torch.ones(2000)], 1),
        },
        callers={"mlp": 1, "shares": 4},
    )
    with torch.inference_mode():
        result = il.run(mix, load=il.OpenLoop.constant(500), calls=400, warmup_calls=0, verify=True)
    assert result.verification.differing == result.models[1].verification.differing > 0
    assert result.verification.input in {3, 4}
    assert 1 <= result.verification.caller <= 4


def test_callers_that_do_not_add_up_are_refused():
    with pytest.raises(il.PlanError, match="3 callers were asked for, and the models have 2"):
        il.run(dedicated(slow=1, fast=1), load=il.ClosedLoop(callers=3), calls=5)
    with pytest.raises(il.PlanError, match="give each of them callers, or none"):
        il.run(dedicated(slow=1), calls=5)
    with pytest.raises(il.PlanError, match="the callers of fast"):
        il.run(dedicated(slow=1, fast=0), calls=5)
    rare = il.Mix(
        {"a": (models.NoOp(), SIZED, 1), "rare": (models.NoOp(), SIZED, 1e-6)},
        callers={"a": 1, "rare": 1},
    )
    with pytest.raises(il.PlanError, match=r"none of 20 calls .* is for rare"):
        il.run(rare, load=il.OpenLoop.constant(1000), calls=20)


@pytest.mark.parametrize("processes", [None, pytest.param(2, marks=pytest.mark.multiprocess)])
def test_a_long_run_of_models_with_callers_of_their_own_is_counted_by_model(processes, monkeypatch):
    monkeypatch.setattr("inferload.log.ring.KEPT_CALLS", 4096)
    monkeypatch.setattr("inferload.log.merge.KEPT_CALLS", 4096)
    counts = models.Counts() if processes is None else models.NoOp()
    mix = il.Mix(
        {"echo": (models.NoOp(), SIZED, 1), "counts": (counts, [torch.ones(1)] * 2, 1)},
        callers={"echo": 1, "counts": 2},
    )
    result = il.run(mix, calls=60_000, warmup_calls=0, processes=processes)
    assert result.log.tally is not None
    assert result.log.calls_made == result.summary.completed_calls == 60_000
    echo, other = result.models
    assert echo.completed_calls + other.completed_calls == 60_000
    assert min(echo.completed_calls, other.completed_calls) > 8192  # each log was a ring
    if processes is None:
        assert other.completed_calls == counts.calls
    assert set(result.log.caller[result.log.input >= 3] % 3) == {1, 2}
