"""What a model answered to a batch, taken apart."""

from __future__ import annotations

from collections import UserDict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
import torch

from inferload.errors import PlanError
from inferload.targets.outputs.splitting import answers_by_entry, taken_apart

X = torch.arange(12.0).reshape(6, 2)


def apart(output: object, counts: tuple[int, ...] = (1, 2, 3), size: int = 6, **how: bool):
    pieces = taken_apart(output, counts, size, "model", **how)
    return [pieces.of(request) for request in range(len(counts))]


class Named(NamedTuple):
    scores: torch.Tensor
    scale: float


def test_tensors_are_split_in_any_nesting():
    first, second, third = apart({"a": [X, (X + 1).numpy()], "b": Named(X, 2.0)})
    assert torch.equal(first["a"][0], X[:1])
    assert np.array_equal(second["a"][1], (X + 1)[1:3].numpy())
    assert torch.equal(third["b"].scores, X[3:])
    assert third["b"].scale == 2.0


def test_pieces_are_views():
    (first, *_) = apart(X)
    assert first.data_ptr() == X.data_ptr()


def test_what_fills_a_batch_belongs_to_nobody():
    first, second = apart(X, (1, 2))
    assert first.tolist() == X[:1].tolist()
    assert second.tolist() == X[1:3].tolist()


def test_what_is_no_batch_belongs_to_all():
    table = torch.zeros(9)
    for number, one in enumerate(apart({"x": X, "table": table, "name": "y"})):
        assert one["table"] is table
        assert one["name"] == "y"
        assert len(one["x"]) == number + 1


def test_a_list_has_an_entry_for_each_item():
    found = apart(list("abcdef"), by_entry=True)
    assert found == [["a"], ["b", "c"], ["d", "e", "f"]]
    # one of them has as many boxes as there are images, which makes it no batch
    boxes = [{"boxes": torch.zeros(number, 4)} for number in (0, 6, 2, 3, 4, 5)]
    found = apart(boxes, by_entry=True)
    assert [[len(one["boxes"]) for one in own] for own in found] == [[0], [6, 2], [3, 4, 5]]
    with pytest.raises(PlanError, match="of 6 items with a list of 2, and none"):
        apart([X, X], by_entry=True)


def boxes_of(*numbers: int) -> list[torch.Tensor]:
    return [torch.zeros(number, 4) for number in numbers]


@pytest.mark.parametrize(
    ("outputs", "by_entry"),
    [
        ({1: boxes_of(1), 2: boxes_of(2, 2)}, True),  # by the number of entries
        ({1: (X[:1], X[:1]), 2: (X[:2], X[:2])}, False),
        ({2: (X[:2], X[:2])}, False),  # by the tensors, each of which is a batch
        ({2: boxes_of(2, 3)}, True),
        ({1: boxes_of(3)}, True),
        ({2: list("ab")}, True),
        ({2: Named(X[:2], 1.0)}, False),
        ({1: X[:1], 2: X[:2]}, False),
    ],
)
def test_whether_a_list_has_entries_is_seen_once(outputs: dict[int, object], by_entry: bool):
    assert answers_by_entry(outputs) == by_entry


@dataclass
class Answer:
    scores: torch.Tensor
    kinds: UserDict


class Cache:
    def __init__(self, keys: torch.Tensor):
        self.keys = keys


def test_containers_of_any_class_are_unfolded():
    answer = Answer(X, UserDict(label=X + 1, cache=Cache(X.reshape(6, 1, 2))))
    first, _, third = apart(answer)
    assert torch.equal(first["scores"], X[:1])
    assert torch.equal(third["kinds"]["label"], X[3:] + 1)
    assert [one.shape for one in third["kinds"]["cache"]] == [(3, 1, 2)]
    with pytest.raises(PlanError, match="of 6 items with 1x2, and none"):
        apart(Answer(X[:1], UserDict()))


def test_an_output_of_nothing_is_everybodys():
    assert apart(None) == [None] * 3
    assert apart({"loss": None}) == [{"loss": None}] * 3


@pytest.mark.parametrize(
    ("output", "told"),
    [
        (X[:5], "5x2"),
        (X.sum(0), "2"),
        ({"a": X[:1]}, "1x2"),
        ([X[:2], X[:2]], "2x2, 2x2"),
        (X.sum(), "one number"),
        (X.numpy().sum(), "one number"),
        ({"loss": 0.5}, "one number"),
        ("all of them", "one text"),
    ],
)
def test_another_number_of_items_is_refused(output: object, told: str):
    with pytest.raises(PlanError, match=f"answered a batch of 6 items with {told}, and none of"):
        apart(output)


def test_one_item_is_answered_with_one_number():
    assert apart(0.5, (1,), 1) == [0.5]
