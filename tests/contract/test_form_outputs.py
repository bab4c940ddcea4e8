"""Outputs of a form held to those of the eager model: differences, random numbers, state."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

import inferload as il
from inferload.targets.outputs.same_outputs import Eager, compared
from support.converted import X, codes, forms_of


class Triples(torch.nn.Module):
    """A model that a compiler gets wrong."""

    def forward(self, x):
        return x * (3 if torch.compiler.is_compiling() else 2)


class Draws(torch.nn.Module):
    def forward(self, x):
        return x + torch.rand_like(x)


class Counts(torch.nn.Module):
    """Keeps its count in a buffer, which a trace keeps as well."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x):
        self.count += 1
        return x + self.count


class CountsInPython(torch.nn.Module):
    """Keeps its count where no form other than eager keeps it."""

    count = 0

    def forward(self, x, *rest):
        self.count += 1
        return x + self.count


class PadsByHand(torch.nn.Module):
    """Differs in one place only, where the eager model's output is 0."""

    def forward(self, x):
        out = x.clone().reshape(2, 2, 2)
        out[1, 1] = 5 if torch.compiler.is_compiling() else 0
        return out


class TakesANumber(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, x, n: int):
        return self.linear(x) * n


@pytest.mark.parametrize("form", ["compile", "export"])
def test_a_form_that_computes_something_else_is_refused_and_says_where(form: str):
    with pytest.raises(il.PlanError, match=rf"8 of 8 values of the output .*form '{form}'|{form}"):
        forms_of(Triples(), form, [X])
    assert forms_of(Triples(), form, [X], compare=False).form == form


def test_places_that_differ_are_named_with_what_the_eager_model_has_there():
    words = r"2 of 8 values of the output differ by up to 5, at \[1, 1\] of the shape \(2, 2, 2\)"
    with pytest.raises(il.PlanError, match=words + ", where the eager model's are all 0"):
        forms_of(PadsByHand(), "export", [X])


@pytest.mark.parametrize("form", ["script", "export", "compile"])
def test_random_numbers_are_told_and_not_compared(form: str):
    target = forms_of(Draws(), form, [X])
    assert target.form == form
    (note,) = [one for one in target.notes if one.code == "not-compared"]
    assert "random numbers" in note.message


@pytest.mark.parametrize("draw", [random.random, np.random.random])
def test_random_numbers_of_other_generators_are_no_state(draw):
    eager = Eager("draws", lambda x: x + draw(), il.CallInput(args=(X,)))
    assert eager.changes == "it draws random numbers"


def test_random_numbers_that_come_out_alike_by_chance_are_drawn_again():
    rare = iter([0, 0, 0, 0, 1])

    def seldom(x):
        return x + next(rare) + 0 * random.random()  # noqa: S311

    assert Eager("seldom", seldom, il.CallInput(args=(X,))).changes == "it draws random numbers"
    fixed = Eager("fixed", lambda x: x + 0 * random.random(), il.CallInput(args=(X,)))  # noqa: S311
    assert fixed.changes is None


def test_state_that_a_form_keeps_is_told_with_the_buffer():
    (note,) = forms_of(Counts(), "export", [X]).notes
    assert note.code == "not-compared"
    assert "writes to its buffer count" in note.message


def test_state_that_a_form_drops_is_told():
    assert "state-dropped" in codes(forms_of(CountsInPython(), "export", [X]))
    assert "state-dropped" in codes(forms_of(CountsInPython(), "script", [X]))


def test_a_number_that_differs_is_named():
    with pytest.raises(
        il.PlanError, match="argument 'n': the program was exported for 2, this is 3"
    ):
        forms_of(TakesANumber(), "export", [(X, 2), (X, 3)])


def test_weights_made_in_inference_mode_are_told_and_not_the_grad_mode():
    with torch.inference_mode():
        model = torch.nn.Linear(4, 4)
    with pytest.raises(il.PlanError, match="made in inference mode: build the model outside"):
        forms_of(model, "export", [X])


def test_a_number_that_a_form_returns_as_a_tensor_is_compared():
    one = il.CallInput(args=(X,))
    eager = Eager("item", lambda x: x.sum().item(), one)
    assert compared(eager, "aoti", [X.sum], [one]) == ()
    with pytest.raises(il.PlanError, match="it returns the numbers"):
        compared(eager, "aoti", [lambda: X.sum() + 1], [one])


def test_padded_places_are_compared_where_the_eager_model_computes_them():
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = torch.nn.TransformerEncoder(layer, 1).eval()
    mask = torch.tensor([[False, False, True]])
    given = [il.CallInput(args=(torch.randn(1, 3, 8),), kwargs={"src_key_padding_mask": mask})]
    with torch.inference_mode(), pytest.raises(il.PlanError, match=r"all 0\. .* or --grad on"):
        forms_of(model, "export", given)
    with torch.enable_grad():
        assert forms_of(model, "export", given).notes == ()
