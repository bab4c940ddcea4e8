from __future__ import annotations

import dataclasses
import io
import itertools
import random
import threading

import numpy as np
import pytest
import torch

import inferload as il
from inferload.targets.as_target import as_target
from inferload.targets.inputs.given import as_call_inputs
from inferload.targets.outputs.comparing import difference, leaves
from inferload.targets.outputs.verification import reference_outputs
from support import models


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
    found = difference([one], [other])
    assert (None if found is None else found.size) == largest


def test_an_output_that_is_missing_is_a_difference():
    assert difference([torch.zeros(1)], []).how == "in the number of values"


@pytest.mark.parametrize(
    ("one", "other", "how"),
    [
        (torch.zeros(1), torch.tensor([float("nan")]), "in a NaN or an infinity"),
        (1.0, float("nan"), "in a NaN or an infinity"),
        (float("nan"), 1.0, "in a NaN or an infinity"),
        (torch.zeros(3), torch.zeros(4), "in shape: (4,), not (3,)"),
        (torch.zeros(3), torch.zeros(3).int(), "in type: torch.int32, not torch.float32"),
        (1, 1.0, "in type: float, not int"),
        (None, 1.0, "in type: float, not NoneType"),
        ("a", "b", "in text"),
        ({"a": 1}, {"b": 1}, "in structure"),
        ((1, 2), [1, 2], "in structure"),
        (1.0, 3.0, "by up to 2"),
    ],
)
def test_what_differs_is_said(one, other, how):
    assert difference(leaves(one), leaves(other)).how == how


def test_a_model_that_exits_when_it_is_alone_does_not_end_the_run():
    import sys

    def model(x):
        sys.exit(0)

    with pytest.raises(il.CallError) as caught:
        il.run(model, [torch.zeros(1)], calls=5, verify=True, warmup_calls=0)
    assert "SystemExit on input 0" in caught.value.result.verification.reason


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
    model, own = models.sharing_a_buffer(4), models.sharing_a_buffer(1)
    if executor == "native":
        model, own = torch.jit.script(model), torch.jit.script(own)
    inputs = [torch.full((2000,), float(n)) for n in range(4)]
    with torch.inference_mode():
        result = il.run(
            model,
            inputs,
            load=il.ClosedLoop(callers=4),
            calls=1500,
            warmup_calls=0,
            executor=executor,
            verify=True,
        )
        alone = il.run(own, inputs, calls=300, executor=executor, verify=True)
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


def counting(x, count=itertools.count()):  # noqa: B008 - state that calls share
    return x + next(count)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (lambda x: x + torch.rand(()), "it draws random numbers"),
        (lambda x: x + random.random(), "it draws random numbers"),  # noqa: S311
        (lambda x: x + np.random.rand(), "it draws random numbers"),  # noqa: NPY002
        (counting, "it keeps state that calls change"),
    ],
)
def test_a_model_that_does_not_repeat_itself_is_not_verified_and_it_is_said_why(model, why):
    result = il.run(model, [torch.zeros(1)], calls=10, verify=True)
    assert result.verification.compared == 0
    assert why in result.verification.reason
    assert "not-verified" in [one.code for one in result.warnings]


def test_outputs_that_come_out_alike_by_chance_are_computed_again():
    rare = itertools.chain([0, 0, 0, 1], itertools.repeat(0))
    model = lambda x: x + next(rare) + 0 * torch.rand(())  # noqa: E731
    found = reference_outputs(as_target(model), as_call_inputs([torch.zeros(1)]))
    assert found.reason.startswith("computed 4 times alone its outputs differ on input 0")


def words(result):
    return " ".join(str(result).split())


def differing(result):
    (told,) = [one for one in result.warnings if one.code == "outputs-differ"]
    return told


def writes(pixels, scale=1):
    pixels.add_(1)
    return pixels * scale


@pytest.mark.parametrize("callers", [1, 3])
def test_a_model_that_writes_to_its_input_is_told_so_with_any_number_of_callers(callers):
    load = il.ClosedLoop(callers=callers)
    result = il.run(writes, [(torch.zeros(4), 2)], load=load, calls=60, verify=True)
    assert (result.verification.cause, result.verification.argument) == (
        "input",
        "argument 'pixels' of input 0",
    )
    assert "writes to its input (argument 'pixels' of input 0)" in differing(result).hint
    assert "--fresh-inputs" in differing(result).hint
    assert "several threads" not in differing(result).hint
    assert "differ from those computed alone: argument 'pixels'" in words(result)
    fresh = il.run(
        writes, [(torch.zeros(4), 2)], load=load, calls=60, verify=True, fresh_inputs=True
    )
    assert fresh.verification.differing == 0
    assert fresh.verification.compared > 0
    assert not {"outputs-differ", "input-changes"} & {one.code for one in fresh.warnings}


@pytest.mark.parametrize("callers", [1, 2])
@pytest.mark.parametrize(
    ("model", "one"),
    [
        (lambda f: len(f.read()), io.BytesIO(b"abc")),
        (lambda f: sum(list(f)), map(int, "123")),
        (lambda f: torch.rand(2, generator=f), torch.Generator().manual_seed(1)),
    ],
)
def test_a_model_that_uses_up_its_input_is_told_so_and_no_state_or_thread(model, one, callers):
    load = il.ClosedLoop(callers=callers)
    result = il.run(model, [(one,)], load=load, calls=30, verify=True)
    assert (result.verification.cause, result.verification.argument) == (
        "input",
        "argument 'f' of input 0",
    )
    (told,) = [one for one in result.warnings if one.code == "input-changes"]
    assert "--fresh-inputs" in told.hint
    fresh = il.run(model, [(one,)], load=load, calls=30, verify=True, fresh_inputs=True)
    assert (fresh.verification.differing, fresh.verification.reason) == (0, None)


def test_an_input_that_cannot_be_copied_and_is_used_up_is_why_nothing_is_verified():
    result = il.run(lambda f: sum(list(f)), [((n for n in range(3)),)], calls=30, verify=True)
    assert "argument 'f' (generator) is read, and cannot be copied" in result.verification.reason
    (told,) = [one for one in result.warnings if one.code == "input-changes"]
    assert "make it within the model" in told.hint
    assert "--fresh-inputs" not in told.hint


@pytest.mark.native
def test_native_callers_of_a_model_that_writes_to_its_input_are_told_so():
    class Writes(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.add_(1) * 2

    script = torch.jit.script(Writes())
    result = il.run(script, [torch.zeros(4)], executor="native", calls=60, verify=True)
    assert result.verification.argument == "argument 'pixels' of input 0"
    assert "input-changes" in {one.code for one in result.warnings}


@pytest.mark.parametrize("callers", [1, 3])
def test_state_that_only_later_calls_show_is_no_matter_of_threads(callers):
    calls = itertools.count()

    def model(x):
        return x + (next(calls) > 30)

    load = il.ClosedLoop(callers=callers)
    result = il.run(model, [torch.zeros(1)], load=load, calls=60, verify=True)
    assert result.verification.cause == "state"
    assert "keeps state" in differing(result).hint
    assert "several threads" not in differing(result).hint


def test_one_caller_is_never_told_of_threads():
    calls = itertools.count()

    def model(x):  # only the calls in the middle answer otherwise
        return x + (20 < next(calls) < 40)

    result = il.run(model, [torch.zeros(1)], calls=60, verify=True)
    assert result.verification.differing > 0
    assert result.verification.cause == "state"


def test_outputs_that_differ_only_while_others_call_are_a_matter_of_threads():
    inside, together = [], threading.Barrier(2)

    def model(x):
        inside.append(1)
        try:
            if threading.current_thread() is not threading.main_thread():
                together.wait(120)
                return x + 1
            return x
        finally:
            inside.pop()

    result = il.run(
        model, [torch.zeros(1)], load=il.ClosedLoop(callers=2), calls=40, warmup_calls=0,
        verify=True,
    )  # fmt: skip
    assert result.verification.cause == "threads"
    assert "not safe to call from several threads" in differing(result).hint
    assert "only while other threads call" in words(result)
