from __future__ import annotations

import models
import pytest
import torch

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
        (5, 6, float("inf")),
        ("a", torch.zeros(1), float("inf")),
    ],
)
def test_outputs_are_close_by_the_tolerances_of_their_dtype(one, other, largest):
    assert difference([one], [other]) == largest


def test_an_output_that_is_missing_is_a_difference():
    assert difference([torch.zeros(1)], []) == float("inf")


@pytest.mark.parametrize("executor", ["threads", pytest.param("native", marks=pytest.mark.native)])
def test_a_module_whose_callers_share_a_buffer_is_caught(executor):
    import inferload as il

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
    import inferload as il

    result = il.run(lambda x: x + torch.rand(()), [torch.zeros(1)], calls=10, verify=True)
    assert result.verification.compared == 0
    assert "not-verified" in [one.code for one in result.warnings]
