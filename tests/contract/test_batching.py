"""Requests called in batches, over both executors: what each gets, and what the log says of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

import inferload as il
from support import models
from support.batched_runs import BOTH, batched, check_rows, for_executor


@pytest.mark.parametrize("executor", BOTH)
def test_each_request_gets_what_it_would_get_alone(executor):
    model = for_executor(torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.Tanh()), executor)
    result = batched(model, [torch.randn(1, 16) for _ in range(5)], executor)
    assert result.spec.executor == executor
    assert result.verification.compared > 20
    assert not result.verification.differing
    check_rows(result.log, 8)
    assert result.summary.batches.mean_size > 1.5
    assert result.summary.completed_calls == 400


@pytest.mark.parametrize("executor", BOTH)
def test_nested_keyword_arguments_join_and_others_do_not(executor):
    """Inputs with another scale, which is no tensor, have batches of their own."""
    model = for_executor(models.Affine(), executor)
    inputs = [
        il.CallInput(
            (torch.randn(items, 4),),
            {"pair": {"shift": torch.randn(items, 4)}, "scale": scale},
        )
        for items in (1, 2, 3)
        for scale in (1, 2)
    ]
    result = batched(model, inputs, executor)
    assert not result.verification.differing
    check_rows(result.log, 8)
    scales = result.log.input % 2
    for number in np.unique(result.log.batches["batch"]):
        assert len(set(scales[result.log.batches["batch"] == number].tolist())) == 1
    assert result.summary.batches.mean_size > 1.2
    items = np.array([1, 1, 2, 2, 3, 3])[result.log.input].sum()
    per_call = result.summary.throughput_items_per_s.value / (
        result.summary.throughput_calls_per_s.value
    )
    assert per_call == pytest.approx(items / 400)


@pytest.mark.parametrize("executor", BOTH)
def test_the_last_batch_is_held_back_and_then_called(executor):
    result = batched(
        for_executor(torch.nn.ReLU(), executor),
        [torch.ones(1, 2)],
        executor,
        load=il.OpenLoop.replay([0.0, 0.01, 0.02], callers=1, drain_s=0),
        batching={"max_delay_s": 0.2},
        calls=None,
    )
    assert result.log.batches["batch_size"].tolist() == [3, 3, 3]
    assert result.summary.completed_calls == 3


class Centred(torch.nn.Module):
    """Subtracts the mean of the batch: an answer depends on the neighbours."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(0, keepdim=True)


class Leaky(torch.nn.Module):
    """A mean over all places, padded ones too."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(1)


@pytest.mark.parametrize("executor", BOTH)
@pytest.mark.parametrize(
    ("model", "inputs", "pad", "cause"),
    [
        (Centred(), [torch.randn(1, 4) for _ in range(3)], None, "neighbours"),
        (torch.nn.BatchNorm1d(3, track_running_stats=False),
         [torch.randn(1, 3, 4) for _ in range(3)], None, "neighbours"),
        (Leaky(), [1 + torch.rand(1, size) for size in (2, 9, 17)], 0, "padding"),
    ],
)  # fmt: skip
def test_an_answer_that_depends_on_the_batch_is_found(executor, model, inputs, pad, cause):
    result = batched(for_executor(model, executor), inputs, executor, batching={"pad": pad})
    assert result.verification.differing
    assert result.verification.cause == cause
    assert "outputs-differ" in {one.code for one in result.warnings}


class Squeezes(torch.nn.Module):
    """A score for each item, without a dimension for one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(1).squeeze()


class Recurrent(torch.nn.Module):
    """Has the batch in dimension 1 of its state."""

    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(4, 6, batch_first=True)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        outputs, (state, _) = self.lstm(x)
        return outputs, state


@pytest.mark.parametrize("executor", BOTH)
@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (Squeezes(), [torch.randn(1, 4) for _ in range(3)]),
        (Recurrent(), [torch.randn(1, 3, 4)]),
    ],
)
def test_an_output_without_the_batch_in_dimension_0_is_told_as_that(executor, model, inputs):
    result = batched(for_executor(model, executor), inputs, executor)
    assert result.verification.cause == "shape"
    (warning,) = [one for one in result.warnings if one.code == "outputs-differ"]
    assert "dimension 0" in warning.hint


class Boxes(torch.nn.Module):
    """A list with boxes for each image, as detectors answer; of some so many as of a batch."""

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        found: list[torch.Tensor] = []
        for one in x:
            found.append(one[: int(one[0])].unsqueeze(1) * 2)  # noqa: PERF401 - for TorchScript
        return found


@pytest.mark.parametrize("executor", BOTH)
@pytest.mark.parametrize("max_batch", [1, 8])
def test_a_list_of_answers_is_taken_apart_by_its_entries(executor, max_batch):
    inputs = [torch.tensor([[float(count), *range(9)]]) for count in (1, 2, 3, 4, 8)]
    batching = {"max_batch": max_batch}
    model = for_executor(Boxes(), executor)
    result = batched(model, inputs, executor, batching=batching, rate=500.0, calls=100)
    assert not result.summary.failed_calls
    assert result.verification.compared >= 20
    assert not result.verification.differing


@dataclass
class Answer:
    scores: torch.Tensor


class Wrapped(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> Answer:
        return Answer(x * 2)


def test_answers_in_containers_of_their_own_class_are_taken_apart():
    result = batched(Wrapped(), [torch.randn(1, 4) for _ in range(3)])
    assert result.verification.compared >= 20
    assert not result.verification.differing


def test_a_batch_of_one_that_cannot_be_taken_apart_is_told_before_the_run():
    with pytest.raises(il.PlanError, match="answered a batch of 1 item with 4, and none"):
        batched(torch.nn.Flatten(0), [torch.randn(1, 4)])


@pytest.mark.parametrize("executor", BOTH)
def test_all_requests_of_a_batch_that_raised_failed(executor):
    # so few that also of full batches most are without one
    inputs = [*[torch.ones(1, 2)] * 31, torch.full((1, 2), -50.0)]
    model = for_executor(models.RaisesOnNegative(), executor)
    result = batched(model, inputs, executor, on_error="record", verify=False)
    log = result.log
    assert result.summary.failed_calls + result.summary.completed_calls == 400
    for number in np.unique(log.batches["batch"]):
        own = log.batches["batch"] == number
        assert len(set(log.error[own].tolist())) == 1
        assert (log.error[own][0] >= 0) == (log.input[own] == 31).any()
    assert result.summary.batches.batches == len(np.unique(log.batches["batch"][log.completed]))


class Sums(torch.nn.Module):
    """Answers more than two items with one number, or with one item too many."""

    def __init__(self, number: bool):
        super().__init__()
        self.number = number

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.size(0) <= 2:
            return x
        return x.sum() if self.number else torch.cat([x, x[:1]])


@pytest.mark.parametrize("executor", BOTH)
@pytest.mark.parametrize("number", [True, False])
def test_an_answer_that_cannot_be_taken_apart_fails_its_batch_alone(executor, number):
    model = for_executor(Sums(number), executor)
    result = batched(model, [torch.ones(1, 2)], executor, on_error="record", verify=False)
    log = result.log
    assert ((log.error >= 0) == (log.batches["batch_size"] > 2)).all()
    assert (log.error >= 0).any()
    assert "with one number" in log.errors[0].message or not number
    assert "cannot be taken apart" in log.errors[0].message


class Hungry(torch.nn.Module):
    """Has memory for three requests."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.size(0) > 3:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return x * 2


@pytest.mark.parametrize("executor", BOTH)
def test_without_memory_for_a_batch_the_next_ones_have_half_of_it(executor):
    model = for_executor(Hungry(), executor)
    result = batched(model, [torch.ones(1, 2)], executor, on_error="record", verify=False)
    (halved,) = [one for one in result.warnings if one.code == "batches-halved"]
    log = result.log
    failed = np.unique(log.batches["batch"][~log.completed])
    assert len(failed) >= 1
    most = min(log.batches["batch_size"][~log.completed].min() // 2, 3)
    assert f"no batch had more than {most} requests" in halved.message
    assert f"max_batch={most}" in halved.hint
    assert log.batches["batch_size"][log.completed].max() <= 3
    assert result.summary.completed_calls + result.summary.failed_calls == 400
    assert result.summary.completed_calls > 300


@pytest.mark.parametrize("executor", BOTH)
def test_clients_ask_again_when_they_are_answered(executor):
    model = for_executor(models.NoOp(), executor)
    for batching in (None, il.Batching(max_batch=4, max_delay_s=0.001)):
        result = il.run(
            model,
            [torch.zeros(1, 2)],
            load=il.ClosedLoop(callers=2, clients=9),
            batching=batching,
            executor=executor,
            calls=1_001,
        )
        log = result.log
        assert len(log) == 1_001
        # one that is answered asks at once; the last 9 are not followed by others
        assert (log.scheduled_ns[:9] == 0).all()
        asked = np.unique(log.scheduled_ns[9:], return_counts=True)
        answered = dict(zip(*np.unique(log.finished_ns, return_counts=True), strict=True))
        assert all(answered[time] >= count for time, count in zip(*asked, strict=True))
        assert (result.summary.batches is None) == (batching is None)
        assert "requests/s" in str(result)


def test_models_of_a_mix_never_share_a_batch():
    double, half = torch.nn.Linear(4, 4), torch.nn.Linear(4, 2)
    mix = il.Mix(
        {"double": (double, [torch.randn(1, 4) for _ in range(2)], 1),
         "half": (half, [torch.randn(1, 4)], 1)}
    )  # fmt: skip
    result = batched(mix, None)
    assert not result.verification.differing
    owner = result.log.input // 2
    for number in np.unique(result.log.batches["batch"]):
        assert len(set(owner[result.log.batches["batch"] == number].tolist())) == 1
    assert len(set(owner.tolist())) == 2


@pytest.mark.multiprocess
def test_each_process_batches_what_is_dealt_to_it():
    result = batched(torch.nn.Linear(4, 2), [torch.randn(1, 4) for _ in range(3)], processes=2,
                     verify=False)  # fmt: skip
    log = result.log
    check_rows(log, 8)
    assert set(log.process.tolist()) == {0, 1}
    for number in np.unique(log.batches["batch"]):
        assert len(set(log.process[log.batches["batch"] == number].tolist())) == 1
    assert result.summary.batches.batches == len(np.unique(log.batches["batch"]))
    assert "each of 2 processes has its own" in " ".join(str(result).split())


def test_a_saved_run_has_its_batches(tmp_path):
    result = batched(torch.nn.Linear(4, 2), [torch.randn(1, 4)])
    result.save(tmp_path / "run.json")
    again = il.load_result(tmp_path / "run.json")
    assert again.summary.batches == result.summary.batches
    assert again.spec == result.spec
    for name, column in result.log.batches.items():
        assert np.array_equal(again.log.batches[name], column)
    assert str(again) == str(result)
    assert "wait for the batch" in str(result)
    assert "calls of the model/s" in str(result)


def test_memory_that_ended_a_run_is_told_without_a_size_that_nobody_tried():
    made = iter(range(10**6))

    class Late(torch.nn.Module):
        def forward(self, x):
            if next(made) > 40 and len(x) > 1:
                raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return x

    with pytest.raises(il.CallError) as caught:
        batched(Late(), [torch.ones(1, 2)], verify=False, calls=4000)
    (ended,) = [one for one in caught.value.result.warnings if one.code == "batches-halved"]
    assert "ended the run" in ended.message
    assert "record" in ended.hint
    assert "max_batch" not in ended.hint
