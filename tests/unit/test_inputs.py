from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import inferload as il
from inferload.errors import PlanError
from inferload.inputs import as_call_inputs, described, input_order, inputs_from_text, owned


def test_a_tensor_a_tuple_a_dict_and_a_call_input_are_inputs():
    x = torch.zeros(2)
    read = as_call_inputs([x, (x, 3), {"x": x}, il.CallInput((x,), items=5)])
    assert [(len(one.args), list(one.kwargs), one.items) for one in read] == [
        (1, [], 1),
        (2, [], 1),
        (0, ["x"], 1),
        (1, [], 5),
    ]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([], "there are no inputs"),
        (torch.zeros(3), "put it in a list"),
        (3, "not int"),
        ([torch.zeros(1), "text"], "input 1 is a str"),
        ([il.CallInput((), {}, 0)], "items=0"),
    ],
)
def test_what_is_no_input_is_refused(inputs: object, words: str):
    with pytest.raises(PlanError, match=words):
        as_call_inputs(inputs)


def test_owned_inputs_have_storage_of_their_own_in_the_same_structure():
    shared = torch.zeros(3, requires_grad=True)
    one = il.CallInput((shared, [shared, {"deep": torch.ones(2)}], 7), {"array": np.ones(2)})
    copy = owned(one)
    assert copy.args[0] is copy.args[1][0]
    assert copy.args[0].requires_grad
    assert copy.args[0].is_leaf
    assert copy.args[0].data_ptr() != shared.data_ptr()
    assert copy.args[1][1]["deep"].data_ptr() != one.args[1][1]["deep"].data_ptr()
    assert copy.kwargs["array"] is not one.kwargs["array"]
    assert copy.args[2] == 7


@given(st.integers(1, 50), st.integers(1, 3000), st.integers(0, 2**32))
def test_every_stretch_of_the_order_holds_each_input_once(inputs, calls, seed):
    order = input_order(inputs, calls, seed)
    assert len(order) >= min(calls, 65_536)
    decks = order.reshape(-1, inputs)
    assert (np.sort(decks, axis=1) == np.arange(inputs)).all()
    assert (order == input_order(inputs, calls, seed)).all()


def test_another_seed_gives_another_order():
    assert (input_order(10, 100, 1) != input_order(10, 100, 2)).any()


def test_a_spec_names_shapes_dtypes_and_keywords():
    (one,) = inputs_from_text(["8x3x4:float32,mask=8x3:bool,n=2:int64"], seed=0)
    assert described(one) == "8x3x4:float32, mask=8x3:bool, n=2:int64"
    assert one.items == 8
    (again,) = inputs_from_text(["8x3x4,mask=8x3:bool,n=2:int64"], seed=0)
    assert torch.equal(one.args[0], again.args[0])


@pytest.mark.parametrize(
    "text",
    ["8xx3", "2:float33", "x=2,3", "", "no/such/file", "9999999999999x9999", "4:quint8", "x" * 300],
)
def test_a_spec_that_is_none_is_refused(text: str):
    with pytest.raises(PlanError):
        inputs_from_text([text], seed=0)


def test_a_file_of_inputs_is_read_and_one_with_code_in_it_is_not(tmp_path: Path):
    good, bad = tmp_path / "good.pt", tmp_path / "bad.pt"
    torch.save([torch.zeros(2), {"x": torch.zeros(3)}], good)
    torch.save([Path("x")], bad)
    assert len(inputs_from_text([str(good)], seed=0)) == 2
    with pytest.raises(PlanError, match="nothing else is unpickled"):
        inputs_from_text([str(bad)], seed=0)
    with pytest.raises(PlanError, match="there is no input file"):
        inputs_from_text([str(tmp_path / "none.pt")], seed=0)
