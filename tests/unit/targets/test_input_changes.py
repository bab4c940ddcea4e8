from __future__ import annotations

import copy
import io
import itertools
import random
from collections import deque
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from inferload.targets.inputs.changes import Comparing
from inferload.targets.inputs.state import marked


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


LEFT = "later calls find what is left of it"
REWIND = "later calls that do not rewind it find what is left"
STATE = "has a state that calls change"


class Sampler:
    def __init__(self) -> None:
        self.rng = random.Random(0)  # noqa: S311


def draw(generator):
    generator.random()


@pytest.mark.parametrize(
    ("make", "call", "how"),
    [
        (lambda: io.BytesIO(b"abc"), lambda f: f.read(), f"is read: {REWIND}"),
        (lambda: io.StringIO("abc"), lambda f: f.read(1), f"is read: {REWIND}"),
        (lambda: io.BytesIO(b"abc"), lambda f: f.write(b"x"), "is written to"),
        (lambda: io.BytesIO(b"abc"), lambda f: f.close(), f"is read: {REWIND}"),
        (lambda: {"x": [io.BytesIO(b"a")]}, lambda d: d["x"][0].read(),
         f"is read (['x'][0]): {REWIND}"),
        (lambda: iter([1, 2]), next, f"is read: {LEFT}"),
        (lambda: iter({1, 2}), list, f"is read: {LEFT}"),
        (lambda: map(int, "12"), next, f"is read: {LEFT}"),
        (lambda: zip([1], [2], strict=True), list, f"is read: {LEFT}"),
        (lambda: reversed([1, 2]), next, f"is read: {LEFT}"),
        (lambda: iter(torch.zeros(2)), next, f"is read: {LEFT}"),
        (lambda: random.Random(0), draw, STATE),  # noqa: S311
        (lambda: np.random.default_rng(0), draw, STATE),
        (lambda: torch.Generator().manual_seed(0), lambda g: torch.rand(1, generator=g), STATE),
        (Sampler, lambda one: one.rng.random(), f"{STATE} (.rng)"),
    ],
)  # fmt: skip
def test_what_calls_use_up_is_told(make, call, how):
    before = make()
    after = copy.deepcopy(before)
    assert Comparing().change(((before,), {}), ((after,), {})) is None
    call(after)
    found = Comparing().change(((before,), {}), ((after,), {}))
    assert (found.how, found.shared) == (how, False)


@pytest.mark.parametrize(
    ("make", "call", "how"),
    [
        (lambda: open(__file__), lambda f: f.read(), f"is read: {REWIND}"),  # noqa: PTH123, SIM115
        (lambda: open(__file__), next, f"is read: {REWIND}"),  # noqa: PTH123, SIM115
        (lambda: (n for n in range(3)), next, f"is read: {LEFT}"),
        (lambda: map(int, (n for n in range(3))), next, f"is read: {LEFT}"),
    ],
)
def test_what_cannot_be_copied_is_compared_with_how_far_it_was_read(make, call, how):
    one = make()
    before = marked(((), {"x": [one]}), ((), {"x": [one]}))
    assert Comparing().change(before, ((), {"x": [one]})) is None
    call(one)
    found = Comparing().change(before, ((), {"x": [one]}))
    assert (found.type_name, found.shared) == ("list", True)
    assert found.how.startswith(how.partition(":")[0])
    if hasattr(one, "close"):
        one.close()


class Awkward:
    """Whose every method of a file or an iterator raises."""

    def tell(self):
        raise RuntimeError("no")

    read = __next__ = __iter__ = __length_hint__ = __reduce_ex__ = tell


def test_what_does_not_say_how_far_it_is_read_is_taken_as_unchanged():
    one, other = Awkward(), Awkward()
    assert Comparing().change(((one,), {}), ((other,), {})) is None
    same = ((one, itertools.repeat(1)), {})
    assert Comparing().change(marked(same, same), same) is None
