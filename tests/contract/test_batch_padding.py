"""Batches of inputs of different lengths, and of sizes that a model was made for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import inferload as il
from inferload.errors import PlanError
from support.batched_runs import BOTH, batched, check_rows, for_executor


class LongestWord(torch.nn.Module):
    """Sums up embeddings of words that are no padding."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(50, 8)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        found = self.table(ids) * mask.unsqueeze(2)
        return {"words": found, "sentence": found.sum(1)}


def sentences(*lengths: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [
        (torch.randint(1, 50, (1, length)), torch.ones(1, length, dtype=torch.int64))
        for length in lengths
    ]


@pytest.mark.parametrize("executor", BOTH)
def test_shorter_inputs_are_padded_to_the_longest_of_their_batch(executor):
    model = for_executor(LongestWord(), executor)
    lengths = (3, 5, 9, 12)
    result = batched(model, sentences(*lengths), executor, batching={"pad": 0})
    assert not result.verification.differing
    check_rows(result.log, 8)
    log, own, joined = result.log, np.array(lengths)[result.log.input], False
    for number in np.unique(log.batches["batch"]):
        there = log.batches["batch"] == number
        joined |= len(set(own[there].tolist())) > 1
        whole = own[there].max() * there.sum()
        assert log.batches["padding_ppm"][there][0] == round(1e6 * (1 - own[there].sum() / whole))
    assert joined
    assert result.summary.batches.padding_fraction > 0.05


class Brightness(torch.nn.Module):
    """One number a channel, which a value in another place would change."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        rows = torch.arange(image.size(2)).unsqueeze(1)
        return (image * (rows + 1) * torch.arange(1, image.size(3) + 1)).sum((2, 3))


@pytest.mark.parametrize("executor", BOTH)
def test_padded_images_keep_their_order_of_memory(executor):
    images = [
        torch.randn(1, 3, size, 7 - size // 2).to(memory_format=torch.channels_last)
        for size in (4, 6)
    ]
    result = batched(for_executor(Brightness(), executor), images, executor, batching={"pad": 0})
    assert result.summary.batches.padding_fraction > 0.05
    assert result.verification.compared > 20
    assert not result.verification.differing


@pytest.mark.parametrize("executor", BOTH)
def test_without_padding_only_equal_shapes_join(executor):
    model = for_executor(LongestWord(), executor)
    result = batched(model, sentences(3, 5, 9), executor)
    for number in np.unique(result.log.batches["batch"]):
        assert len(set(result.log.input[result.log.batches["batch"] == number].tolist())) == 1
    assert not result.log.batches["padding_ppm"].any()
    assert result.summary.batches.padding_fraction == 0
    assert not result.verification.differing


class OnlySizes(torch.nn.Module):
    """Raises on a size that is not allowed, as a package compiled for one would."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.size(0) != 2 and x.size(0) != 8:
            raise RuntimeError("this size is not allowed")
        return x * 2


@pytest.mark.parametrize("executor", BOTH)
def test_batches_are_filled_up_to_the_sizes_allowed(executor):
    model = for_executor(OnlySizes(), executor)
    result = batched(
        model, [torch.randn(1, 4) for _ in range(3)], executor, batching={"sizes_allowed": (8, 2)}
    )
    assert not result.verification.differing
    assert result.verification.compared > 20
    sizes, padding = result.log.batches["batch_size"], result.log.batches["padding_ppm"]
    assert set(padding[sizes == 1].tolist()) <= {500_000}
    assert set(padding[sizes == 2].tolist()) <= {0}
    assert set(padding[sizes == 5].tolist()) <= {375_000}
    assert result.spec.batching.sizes_allowed == (2, 8)


def test_each_size_may_have_a_program_of_its_own():
    """Exported for one size of dimension 0 each; batches are filled up to the next one there is."""
    model = torch.nn.Linear(4, 2).eval()
    inputs = [torch.randn(1, 4) for _ in range(3)]
    programs = {size: torch.export.export(model, (torch.zeros(size, 4),)) for size in (8, 2)}
    result = batched(programs, inputs)
    assert result.spec.form == "export"
    assert result.spec.batching.sizes_allowed == (2, 8)
    assert result.verification.compared > 20
    assert not result.verification.differing
    sizes, padding = result.log.batches["batch_size"], result.log.batches["padding_ppm"]
    assert set(padding[sizes == 1].tolist()) <= {500_000}
    assert set(padding[sizes == 5].tolist()) <= {375_000}
    with pytest.raises(PlanError, match="has programs for 2, 8 items, and was called with 1"):
        il.run(programs, inputs, calls=5)
    with pytest.raises(PlanError, match="has programs for 2, 8 items, and 3 were allowed"):
        batched(programs, inputs, batching={"sizes_allowed": (3,)})


@pytest.mark.multiprocess
def test_programs_of_several_sizes_go_to_other_processes():
    model = torch.nn.Linear(4, 2).eval()
    programs = {size: torch.export.export(model, (torch.zeros(size, 4),)) for size in (1, 4)}
    result = batched(programs, [torch.randn(1, 4) for _ in range(3)], processes=2)
    assert set(result.log.process.tolist()) == {0, 1}
    assert not result.verification.differing


def test_a_form_of_fixed_shapes_is_made_for_each_size_allowed():
    inputs = [torch.randn(1, length, 4) for length in (3, 5, 7)]
    result = batched(
        torch.nn.Linear(4, 2).eval(), inputs, form="export",
        batching={"sizes_allowed": (1, 4), "pad": 0},
    )  # fmt: skip
    assert result.spec.form == "export"
    assert not result.verification.differing
    assert result.log.batches["batch_size"].max() <= 4
