from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import inferload as il
from inferload.cli.batches import beside_of
from inferload.targets.inputs.stacking import stacked
from support.program import inferload_here


def test_items_are_taken_in_order_and_again_if_they_are_too_few():
    given = [il.CallInput((torch.tensor([[float(n)]]),)) for n in range(3)]
    (four,) = stacked(given, 4)
    assert four.args[0].flatten().tolist() == [0, 1, 2, 0]
    assert four.items == 4
    ones = stacked(given, 1)
    assert [one.args[0].item() for one in ones] == [0, 1, 2]


def test_a_batch_is_cut_to_smaller_ones():
    whole = il.CallInput((torch.arange(6.0).reshape(6, 1),), {"mask": torch.arange(6)})
    (first,) = stacked([whole], 2)  # no more batches than there were inputs
    assert first.args[0].flatten().tolist() == [0, 1]
    assert first.kwargs["mask"].tolist() == [0, 1]
    both = stacked([whole, whole], 4)
    assert [one.args[0].flatten().tolist() for one in both] == [[0, 1, 2, 3], [4, 5, 0, 1]]


def test_constants_and_tensors_that_are_no_batch_stay_as_they_are():
    table = torch.arange(5.0)
    given = [il.CallInput((torch.zeros(2, 3), table), {"scale": 7}) for _ in range(2)]
    (four,) = stacked(given[:1], 4)
    assert four.args[0].shape == (4, 3)
    assert four.args[1] is table
    assert four.kwargs == {"scale": 7}


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ((torch.zeros(1, 4), 1), "they have other dimensions"),
        ((torch.zeros(1, 3, dtype=torch.int64), 1), "another type"),
        ((torch.zeros(1, 3), 2), "they have another constant"),
        ((torch.zeros(1, 3),), "they have another structure"),
    ],
)
def test_inputs_that_cannot_be_stacked_are_named(other: tuple, says: str):
    given = [il.CallInput((torch.zeros(1, 3), 1)), il.CallInput(other)]
    with pytest.raises(il.PlanError, match=says) as raised:
        stacked(given, 2)
    assert "inputs 0 (1x3:float32, 1) and 1 (" in str(raised.value)


def test_a_tensor_that_is_a_batch_in_one_input_alone_cannot_be_stacked():
    x = torch.zeros(5, 1)
    given = [il.CallInput((x, torch.zeros(5))), il.CallInput((torch.zeros(2, 1), torch.zeros(5)))]
    with pytest.raises(il.PlanError, match="a batch in one of them alone"):
        stacked(given, 3)


def test_constants_of_any_kind_are_compared_with_those_of_other_inputs_alone():
    nan = il.CallInput((torch.zeros(1, 3), torch.full((2,), float("nan")), np.zeros(3)))
    (two,) = stacked([nan], 2)
    assert two.args[0].shape == (2, 3)
    with pytest.raises(il.PlanError, match="another constant"):
        stacked([nan, il.CallInput((torch.zeros(1, 3), nan.args[1], np.ones(3)))], 2)


def test_an_input_without_a_dimension_has_no_batch():
    with pytest.raises(il.PlanError, match="no tensor with a dimension 0"):
        stacked([il.CallInput((torch.tensor(1.0), "x"))], 2)


def test_a_run_may_ask_for_a_batch_size():
    result = il.run(torch.nn.Identity(), [torch.zeros(1, 2)], calls=10, batch_size=5)
    assert result.spec.inputs == ("5x2:float32",)
    assert result.spec.items_per_input == (5,)
    with pytest.raises(il.PlanError, match="batch_size is 0"):
        il.run(torch.nn.Identity(), [torch.zeros(1, 2)], calls=10, batch_size=0)


def test_results_of_sizes_lie_beside_the_file_that_was_asked_for():
    assert beside_of(Path("a/run.json"), 8) == Path("a/run-batch8.json")
    assert beside_of(None, 8) is None


MODEL = """
import torch
class Fussy(torch.nn.Module):
    def forward(self, x):
        if x.shape[0] > 4:
            raise RuntimeError("too many for me")
        return x
def model(): return Fussy()
def inputs(): return [torch.zeros(1, 2)]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "m.py").write_text(MODEL)
    return tmp_path


@pytest.mark.multiprocess
def test_a_size_that_fails_keeps_the_others(folder: Path):
    done = inferload_here(
        "run", "m.py", "--batch-sizes", "8,2", "--calls", "40", "--json", "r.json", "--trace",
        "t.json", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    (two,) = [line for line in lines if line and line[0] == "2"]
    assert "too many for me" in done.stdout.replace("\n", " ")
    assert float(two[1].replace(",", "")) == pytest.approx(
        2 * float(two[2].replace(",", "")), rel=0.01
    )
    assert il.load_result(folder / "r-batch2.json").summary.completed_calls == 40
    assert (folder / "t-batch2.json").is_file()


def test_what_no_size_can_run_is_one_sentence(folder: Path):
    done = inferload_here("run", "m.py", "--batch-sizes", "1,2", "--device", "nonsense", cwd=folder)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("error: device 'nonsense' is unknown")
    assert done.stdout == ""
    alone = inferload_here("run", "m.py", "--batch-sizes", "1,2", "--no-isolate", cwd=folder)
    assert alone.returncode == 2
    assert "leave --no-isolate out" in alone.stderr


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ("1,x", "batch sizes '1,x' are not understood: give numbers, as 1,8,64"),
        ("2,2", "batch sizes '2,2' name one twice"),
        ("9" * 5000, f"batch sizes '{'9' * 5000}' are not understood: give numbers, as 1,8,64"),
        ("0", "batch_size is 0: it must be a whole number from 1 to 1,000,000"),
    ],
)
def test_sizes_that_are_none_are_refused(folder: Path, sizes: str, says: str):
    done = inferload_here("run", "m.py", "--batch-sizes", sizes, cwd=folder)
    assert done.returncode == 2
    assert done.stderr.strip() == f"error: {says}"
