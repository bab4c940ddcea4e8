from __future__ import annotations

import dataclasses
import itertools

import models
import pytest
import torch

import inferload as il
from inferload.verification import difference


@pytest.mark.parametrize(
    ("one", "other", "largest"),
    [
        (torch.zeros(3), torch.zeros(3), None),
        (torch.ones(3), torch.ones(3) * (1 + 1e-7), None),
        (torch.ones(3), torch.tensor([1.0, 1.5, 1.0]), 0.5),
        (torch.ones(3, dtype=torch.bfloat16), torch.ones(3, dtype=torch.bfloat16) * 1.01, None),
        (torch.tensor([float("nan")]), torch.tensor([float("nan")]), None),
        (torch.zeros(3), torch.zeros(4), float("inf")),
        (torch.zeros(3), torch.zeros(3, dtype=torch.int64), float("inf")),
        (torch.tensor([1, 2]), torch.tensor([1, 4]), 2.0),
        (5, 5, None),
        (5, 6, 1.0),
        ("a", torch.zeros(1), float("inf")),
        (float("nan"), float("nan"), None),
        (1.0, 1.0 + 1e-9, None),
        (1.0, 1.5, 0.5),
    ],
)
def test_outputs_are_close_by_the_tolerances_of_their_dtype(one, other, largest):
    assert difference([one], [other]) == largest


def test_an_output_that_is_missing_is_a_difference():
    assert difference([torch.zeros(1)], []) == float("inf")


@dataclasses.dataclass
class Fields:
    x: torch.Tensor
    n: int = 1


@pytest.mark.parametrize(
    "make",
    [
        lambda x, noise: (x + noise).numpy(),
        lambda x, noise: Fields(x + noise),
        lambda x, noise: [1, 2, 3] if noise == 0 else [1, 2],
        lambda x, noise: {"a": x, "b": None if noise == 0 else 1},
    ],
)
def test_outputs_of_any_kind_are_compared(make):
    calls = itertools.count()

    def model(x):
        return make(x, 0.0 if next(calls) < 10 else 1.0)

    result = il.run(model, [torch.zeros(2)], calls=40, warmup_calls=0, verify=True)
    found = result.verification
    assert found.compared == 40
    # two calls alone, then eight under load that are as they should be
    assert found.differing == 32


class Opaque:
    pass


class Pair(tuple):
    """A tuple that cannot be rebuilt from its items."""

    __slots__ = ()

    def __new__(cls, one, other):
        return super().__new__(cls, (one, other))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_outputs_that_cannot_be_compared_are_not_called_verified():
    result = il.run(lambda x: Opaque(), [torch.zeros(1)], calls=10, verify=True)
    assert result.verification.reason == "outputs of type Opaque cannot be compared"
    assert "not-verified" in [one.code for one in result.warnings]
    nested = torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])
    result = il.run(lambda x: nested, [torch.zeros(1)], calls=10, verify=True)
    assert result.summary.completed_calls == 10
    result = il.run(lambda x: Pair(x, x), [torch.zeros(1)], calls=10, verify=True)
    assert result.summary.completed_calls == 10


@pytest.mark.parametrize("executor", ["threads", pytest.param("native", marks=pytest.mark.native)])
def test_a_module_whose_callers_share_a_buffer_is_caught(executor):
    model = models.SharesABuffer().eval()
    if executor == "native":
        model = torch.jit.script(model)
    inputs = [torch.full((200_000,), float(n)) for n in range(4)]
    with torch.inference_mode():
        result = il.run(
            model,
            inputs,
            load=il.ClosedLoop(callers=4),
            calls=1500,
            executor=executor,
            verify=True,
        )
        alone = il.run(model, inputs, calls=300, executor=executor, verify=True)
    found = result.verification
    assert found.compared > 100
    assert found.differing > 0
    assert found.difference in {1.0, 2.0, 3.0}
    assert 0 <= found.caller < 4
    message = next(one.message for one in result.warnings if one.code == "outputs-differ")
    assert f"caller {found.caller} on input {found.input}" in message
    assert "verified    no:" in str(result)
    assert alone.verification.differing == 0
    assert alone.verification.compared >= 32
    assert "verified    yes:" in str(alone)


def test_a_model_that_does_not_repeat_itself_is_not_verified():
    result = il.run(lambda x: x + torch.rand(()), [torch.zeros(1)], calls=10, verify=True)
    assert result.verification.compared == 0
    assert "not-verified" in [one.code for one in result.warnings]
