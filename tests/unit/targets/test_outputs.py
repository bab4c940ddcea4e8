from __future__ import annotations

import dataclasses
import warnings
from collections import UserDict

import numpy as np
import pytest
import torch

from inferload.targets.outputs.comparing import (
    Opaque,
    difference,
    leaves,
    not_compared,
    tensors_among,
    tensors_in,
)

X = torch.arange(9.0).reshape(3, 3)


class Cache:
    """As language models return them: an object that holds tensors, and itself."""

    def __init__(self, *tensors: torch.Tensor) -> None:
        self.layers = [{"keys": tensors}]
        self.device = torch.device("cpu")
        self.owner = self


class Slots:
    __slots__ = ("value",)

    def __init__(self, value: torch.Tensor) -> None:
        self.value = value


@dataclasses.dataclass
class Detection:
    boxes: torch.Tensor
    name: str = "cat"


def nested(*parts: torch.Tensor) -> torch.Tensor:
    return torch.nested.nested_tensor(list(parts), layout=torch.jagged)


def quantised(values: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and still what models return
        return torch.quantize_per_tensor(values, 0.1, 0, torch.qint8)


def csr(values: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # in beta
        return values.to_sparse_csr()


PAIRS = {
    "nested": (nested(X, X[:1]), nested(X + 1, X[:1])),
    "sparse": (X.to_sparse(), (X + 1).to_sparse()),
    "compressed": (csr(X), csr(X + 1)),
    "quantised": (quantised(X), quantised(X + 1)),
    "complex": (torch.fft.fft(X), torch.fft.fft(X + 1)),
    "float8": (X.to(torch.float8_e4m3fn), (X * 2).to(torch.float8_e4m3fn)),
    "a cache": (Cache(X), Cache(X + 1)),
    "slots": (Slots(X), Slots(X + 1)),
    "a dataclass": (Detection(X), Detection(X + 1)),
    "its text": (Detection(X), Detection(X, "dog")),
    "a mapping": (UserDict(a=X), UserDict(a=X + 1)),
    "an array": (np.arange(3.0), np.arange(3.0) + 1),
    "big-endian": (np.ones(3, ">f4"), np.zeros(3, ">f4")),
    "a list of dicts": ([{"boxes": X}], [{"boxes": X + 1}]),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_outputs_of_any_kind_are_compared_part_by_part(kind: str):
    one, other = PAIRS[kind]
    assert difference(leaves(one), leaves(one)) is None
    assert difference(leaves(one), leaves(other)) is not None
    assert not_compared(leaves(one)) == []


def test_what_cannot_be_compared_is_named_and_the_rest_is_compared():
    one, other = leaves([X, object()]), leaves([X + 1, object()])
    assert not_compared(one) == ["outputs of type object"]
    assert difference(one, leaves([X, object()])) is None
    assert difference(one, other).size == 1


def test_leaves_are_copies():
    x = X.clone()
    found = leaves(Cache(x))
    x += 1
    assert torch.equal(tensors_among(found)[0], X)


def test_the_tensors_of_a_cache_are_found_once_each():
    assert [t.data_ptr() for t in tensors_in((X, Cache(X, X[:1])))] == [X.data_ptr()] * 3


def test_models_and_functions_among_outputs_are_not_looked_into():
    found = leaves([torch.nn.Linear(2, 2), len])
    assert [type(one) for one in found[1:]] == [Opaque, Opaque]
