from __future__ import annotations

import copy
from collections import deque
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from inferload.input_changes import Comparing


@dataclass
class Cache:
    layers: list[torch.Tensor] = field(default_factory=lambda: [torch.zeros(1, 6, 2)])
    seen: int = 6


class Slotted:
    __slots__ = ("x",)

    def __init__(self) -> None:
        self.x = torch.zeros(2)


def _append(value):
    value.append(1)


def _write(value):
    value += 1


def _grow(cache):
    cache.layers[0] = torch.zeros(1, 7, 2)


def _count(cache):
    cache.seen += 1


@pytest.mark.parametrize(
    ("before", "change", "how"),
    [
        (torch.zeros(3), _write, "is written to"),
        (torch.tensor([float("nan"), 1.0]), _write, "is written to"),
        (np.zeros(3), _write, "is written to"),
        (torch.ones(2, dtype=torch.float64).to_sparse(), lambda x: x.mul_(2), "is written to"),
        ([1, 2], _append, "grew: it had 2 entries and has 3"),
        (deque([1]), lambda x: x.clear(), "shrank: it had 1 entries and has 0"),
        ({"a": {1}}, lambda x: x["a"].add(2), "grew: ['a'] had 1 entries and has 2"),
        ({"a": 1}, lambda x: x.update(b=x.pop("a")), "changed: it has other keys"),
        (Cache(), _grow, "grew: .layers[0] was 1x6x2 and is 1x7x2"),
        (Cache(), _count, "changed: .seen was 6 and is 7"),
        (Cache(), lambda x: x.layers[0].add_(1), "is written to (.layers[0])"),
        (Slotted(), lambda x: x.x.add_(1), "is written to (.x)"),
        ([[Cache()]], lambda x: x[0].__setitem__(0, 3), "changed: [0][0] was a Cache and is a int"),
        (torch.zeros(2**24), lambda x: x.add_(1), "is written to"),
    ],
)
def test_what_calls_changed_is_told(before, change, how):
    after = copy.deepcopy(before)
    assert Comparing().change(((before,), {}), ((after,), {})) is None
    change(after)
    found = Comparing().change(((), {"x": before}), ((), {"x": after}))
    assert (found.argument, found.type_name, found.how) == ("x", type(before).__name__, how)


def test_what_compares_as_different_from_itself_has_not_changed():
    nan = float("nan")
    tree = {"x": torch.tensor([nan, -0.0]), "y": nan, "z": np.array([nan])}
    assert Comparing().change(((tree,), {}), ((copy.deepcopy(tree),), {})) is None


def test_an_object_that_holds_itself_is_compared():
    one = [torch.zeros(1)]
    one.append(one)
    other = copy.deepcopy(one)
    assert Comparing().change(((one,), {}), ((other,), {})) is None
    other[0] += 1
    assert Comparing().change(((one,), {}), ((other,), {})).how == "is written to ([0])"


def test_the_effort_is_bounded_and_what_is_left_is_sampled():
    comparing = Comparing(most_bytes=100)
    one, other = torch.zeros(1000), torch.zeros(1000)
    for _ in range(50):
        assert comparing.change(((one,), {}), ((other,), {})) is None
    assert comparing.left_bytes <= 0
    assert comparing.change(((one,), {}), ((other + 1,), {})).how == "is written to"


def test_tensors_that_something_else_writes_to_are_left_out():
    before, after = ((torch.zeros(1), [1]), {}), ((torch.ones(1), [1]), {})
    assert Comparing().change(before, after, but_tensors=True) is None
