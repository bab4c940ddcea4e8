"""Which inputs join one batch, in which shapes the model is called, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import inferload as il
from inferload.errors import PlanError
from inferload.records.batches import EVERY_ARGUMENT, BatchSpec
from inferload.targets.inputs import joining
from inferload.targets.inputs.given import as_call_inputs
from inferload.targets.inputs.joined import Joining


def joined(inputs: list, parameters: tuple[str, ...] = (), **how) -> Joining:
    spec = BatchSpec(**{"max_batch": 4} | how)
    return joining.joining_of(as_call_inputs(inputs), spec, lambda _: 0, lambda _: parameters)


def test_inputs_that_differ_in_values_and_items_join():
    found = joined([torch.zeros(1, 3), torch.ones(2, 3)])
    assert found.group_of == (0, 0)
    assert found.items_of == (1, 2)
    assert found.groups[0].sizes == (1, 2, 3, 4, 5, 6, 7, 8)
    assert found.elements_of == (3, 6)
    assert found.groups[0].shape(found.shape_of([0, 1, 1])) == (5, ((3,),))


@pytest.mark.parametrize(
    "other",
    [
        torch.zeros(1, 4),
        torch.zeros(1, 3, dtype=torch.float64),
        torch.zeros(1, 3, 1),
        il.CallInput((torch.zeros(1, 3), 1)),
        il.CallInput((), {"x": torch.zeros(1, 3)}),
        np.zeros((1, 3), np.float32),
        (torch.zeros(1, 3), torch.tensor(2.0)),
    ],
    ids=lambda one: type(one).__name__,
)
def test_inputs_that_differ_in_something_else_do_not(other: object):
    assert joined([torch.zeros(1, 3), other]).group_of == (0, 1)


def test_what_is_no_batch_must_be_the_same():
    """A scale, a word and a table that all requests share."""
    table = torch.randn(7, 2)
    own = [(torch.zeros(1, 3), scale, "mean", table) for scale in (1, 2, 1)]
    assert joined(own).group_of == (0, 1, 0)
    own[2] = (torch.zeros(1, 3), 1, "mean", table + 1)
    with pytest.raises(PlanError, match=r"argument 3 of input 2 has 7 in dimension 0 where the"):
        joined(own)


def test_images_whose_channels_are_last_stay_so():
    image = torch.zeros(1, 3, 4, 4)
    last = image.to(memory_format=torch.channels_last).contiguous(memory_format=torch.channels_last)
    assert not last.is_contiguous()
    assert joined([image, last]).group_of == (0, 1)


def test_padded_inputs_have_the_shapes_of_all_their_batches():
    sizes = [(1, 2, 9), (1, 5, 3), (1, 2, 3)]
    found = joined([torch.zeros(*size) for size in sizes], pad={EVERY_ARGUMENT: 0.0})
    (group,) = found.groups
    assert {ends[0] for ends in group.ends} == {(2, 9), (5, 3), (2, 3), (5, 9)}
    assert group.shape(found.shape_of([0, 1])) == (2, ((5, 9),))
    assert group.shape(found.shape_of([2])) == (1, ((2, 3),))


def test_arguments_that_are_not_named_are_not_padded():
    own = [(torch.zeros(1, size), torch.zeros(1, size)) for size in (2, 3)]
    assert joined(own, pad={"0": 0.0}).group_of == (0, 1)
    assert joined(own, pad={"0": 0.0, "1": 0.0}).group_of == (0, 0)
    assert joined(own, ("ids", "mask"), pad={"ids": 0.0, "mask": 1.0}).group_of == (0, 0)
    keys = [{"ids": torch.zeros(1, size)} for size in (2, 3)]
    assert joined(keys, pad={"ids": 0.0}).group_of == (0, 0)
    nested = [il.CallInput(({"ids": torch.zeros(1, size)},)) for size in (2, 3)]
    assert joined(nested, pad={"ids": 0.0}).group_of == (0, 0)


def test_sizes_allowed_bound_what_joins():
    found = joined([torch.zeros(3, 2)], max_batch=9, sizes_allowed=(2, 4, 16))
    (group,) = found.groups
    assert (group.sizes, group.most) == ((4, 16), 5)
    assert group.shape(found.shape_of([0])) == (4, ((2,),))
    assert group.shape(found.shape_of([0, 0])) == (16, ((2,),))


@pytest.mark.parametrize(
    ("inputs", "how", "words"),
    [
        ([torch.tensor(1.0)], {}, r"input 0 \(scalar:float32\) has no tensor with a dimension 0"),
        ([il.CallInput((3, "a"))], {}, "has no tensor with a dimension 0"),
        ([torch.zeros(0, 3)], {}, "has no tensor with a dimension 0"),
        ([torch.zeros(1, 3)], {"pad": {"y": 0.0}}, "'y', which no input has: name one of 0"),
        ([torch.zeros(1, 3, dtype=torch.int64)], {"pad": {"*": 0.5}}, "padded with 0.5, and has"),
        ([torch.zeros(1, 3, dtype=torch.uint8)], {"pad": {"*": -1.0}}, "which uint8 cannot hold"),
        ([torch.zeros(1, 3, dtype=torch.bool)], {"pad": {"*": 2.0}}, "which bool cannot hold"),
        ([torch.zeros(3, 3)], {"sizes_allowed": (1, 2)}, "has 3 items, and the largest size"),
        ([torch.zeros(1, 3, requires_grad=True)], {}, "requires gradients"),
        ([torch.zeros(9, 1), torch.zeros(1, 1)], {"max_batch": 9999}, "more than 65,536 shapes"),
    ],
)  # fmt: skip
def test_what_cannot_be_put_together_is_refused(inputs: list, how: dict, words: str):
    with pytest.raises(PlanError, match=words):
        joined(inputs, **how)


def test_too_many_padded_shapes_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(joining, "MOST_SHAPES", 64)
    own = [torch.zeros(1, a, b) for a, b in ((1, 9), (9, 1), (3, 7), (7, 3), (5, 5))]
    with pytest.raises(PlanError, match="inputs of 5 shapes are padded to more than 5"):
        joined(own, pad={EVERY_ARGUMENT: 0.0})
