from __future__ import annotations

import itertools
import threading
from collections import OrderedDict, UserDict
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

import inferload as il
from inferload.errors import PlanError
from inferload.targets.inputs.call_input import described, input_order, owned
from inferload.targets.inputs.given import as_call_inputs, inputs_from_text
from inferload.targets.outputs.comparing import tensors_in


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
        (np.zeros((2, 3)), "not one ndarray: put it in a list"),
        (UserDict(x=torch.zeros(3)), "not one UserDict: put it in a list"),
        ([torch.zeros(1), "text"], r"input 1 is a str: .*dict\(x\) or tuple\(x\)"),
        ([torch.zeros(1), 3], r"input 1 is a int: .*CallInput\(\(x,\)\)"),
        ([{3: torch.zeros(1)}], "a keyword that is no string: 3"),
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


class Pair(NamedTuple):
    x: object
    y: object


class Tokens(UserDict):
    """As what tokenizers return."""


@pytest.mark.parametrize("kind", [dict, OrderedDict, UserDict, Tokens, MappingProxyType])
def test_mappings_of_any_class_are_keyword_arguments(kind):
    (one,) = as_call_inputs([kind({"x": torch.zeros(2, 3)})])
    assert (one.args, list(one.kwargs), one.items) == ((), ["x"], 2)


class Graph:
    """As graphs and dicts of tensors of their own: it has keys, can be called, and is one thing."""

    def __init__(self, **own):
        self.__dict__.update(own)

    def keys(self):
        return self.__dict__.keys()

    def __getitem__(self, name):
        return self.__dict__[name]

    def __call__(self, *names):
        return [self[name] for name in names]


def test_an_object_of_its_own_class_is_one_argument():
    graph = Graph(x=torch.ones(3, 2), edges=torch.zeros(2, 4, dtype=torch.int64))
    (one,) = as_call_inputs([graph])
    assert (one.args, dict(one.kwargs), one.items) == ((graph,), {}, 1)
    assert tensors_in(one.args) == [graph.x, graph.edges]
    result = il.run(lambda given: given.x.sum(), [graph], calls=10, verify=True)
    assert result.verification.differing == 0


def test_lists_are_arguments_and_arrays_are_one():
    array, x = np.ones((3, 2)), torch.zeros(2)
    listed, arrayed, named = as_call_inputs([[x, x], array, Pair(x, 3)])
    assert listed.args == (x, x)
    assert arrayed.args == (array,)
    assert arrayed.items == 3
    assert named.args == (x, 3)


def test_an_array_reaches_the_model_as_an_array():
    seen = []
    reversed_ = np.arange(3.0)[::-1]
    inputs = [np.ones(3), reversed_, np.arange(3, dtype=">f4"), np.ones(3, np.longdouble)]
    il.run(lambda x: seen.append(type(x)), inputs, calls=8, verify=True)
    assert set(seen) == {np.ndarray}


def test_a_packed_sequence_is_one_argument_though_it_is_a_tuple():
    packed = torch.nn.utils.rnn.pack_sequence([torch.ones(3, 2), torch.ones(1, 2)])
    result = il.run(torch.nn.LSTM(2, 4).eval(), [packed], calls=3, verify=True)
    assert result.summary.completed_calls == 3


def test_batches_of_a_loader_are_inputs():
    loader = DataLoader(TensorDataset(torch.arange(8.0).reshape(8, 1)), batch_size=2)
    read = as_call_inputs(loader)
    assert [one.args[0].flatten().tolist() for one in read] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert [one.items for one in read] == [2, 2, 2, 2]


def test_a_generator_of_inputs_is_read_to_its_end_and_one_without_end_is_refused():
    assert len(as_call_inputs(torch.zeros(1) for _ in range(5))) == 5
    with pytest.raises(PlanError, match=r"had not ended after 10,000 inputs .*islice"):
        as_call_inputs(torch.zeros(1) for _ in itertools.count())


def test_a_loader_of_more_than_memory_holds_is_refused():
    much = (torch.zeros(1).expand(2**28) for _ in itertools.count())
    with pytest.raises(PlanError, match="had not ended after 4 inputs"):
        as_call_inputs(much)


@pytest.mark.parametrize(
    ("args", "items"),
    [
        ((torch.zeros(64, 512),), 64),
        ((torch.tensor(3), torch.zeros(7), torch.zeros(5, 2)), 5),
        ((torch.zeros(7),), 1),
        ((np.zeros((4, 2)),), 4),
        (([torch.zeros(3, 2)], torch.zeros(9, 2)), 3),
        ((torch.zeros(0, 2),), 1),
        ((5,), 1),
    ],
)
def test_a_spec_and_a_tensor_of_one_shape_have_the_same_items(args, items):
    (one,) = as_call_inputs([args])
    assert one.items == items
    assert as_call_inputs([il.CallInput(args)])[0].items == items
    assert as_call_inputs([il.CallInput(args, items=1)])[0].items == 1
    if isinstance(args[0], torch.Tensor) and args[0].numel() and args[0].dim():
        shapes = ",".join("x".join(map(str, one.shape)) for one in args)
        assert inputs_from_text([shapes], seed=0)[0].items == items


def test_the_report_says_how_many_items_a_call_has():
    result = il.run(lambda x: x, [torch.zeros(64, 2), torch.zeros(8, 2)], calls=20)
    assert "items/s (8 to 64 a call)" in str(result)
    assert "items/s" not in str(il.run(lambda x: x, [torch.zeros(2)], calls=20))


class Cache:
    """What pytree knows nothing of: tensors in an object, one of them twice, and a module."""

    def __init__(self, module: torch.nn.Module | None = None) -> None:
        leaf = torch.ones(2, requires_grad=True)
        self.layers = [leaf * 2, torch.zeros(3)]
        self.first = self.layers[0]
        self.names = {"a", "b"}
        self.module = module
        self.weight = torch.nn.Parameter(torch.ones(2))


def test_objects_of_any_class_are_copied_with_the_tensors_in_them():
    module = torch.nn.Linear(2, 2)
    cache = Cache(module)
    copy = owned(il.CallInput((cache, cache.first), {"again": [cache]}))
    own = copy.args[0]
    assert own is not cache
    assert copy.kwargs["again"][0] is own
    assert own.first is own.layers[0] is copy.args[1]
    assert own.first.is_leaf
    assert own.first.requires_grad
    assert own.layers[1].data_ptr() != cache.layers[1].data_ptr()
    assert own.names is not cache.names
    assert own.weight is not cache.weight
    assert own.module is module


@pytest.mark.parametrize("inference", [True, False])
def test_a_copy_is_an_inference_tensor_where_the_original_is_one(inference):
    with torch.inference_mode(inference):
        cache = Cache()
    with torch.inference_mode():
        assert owned(il.CallInput((cache,))).args[0].first.is_inference() == inference


def test_a_part_of_a_tensor_is_copied_without_the_rest():
    whole = torch.zeros(1000, 4)
    copy = owned(il.CallInput(([whole[3]], {"x": whole[5]})))
    assert copy.args[0][0].untyped_storage().nbytes() == 16


def test_what_cannot_be_copied_is_shared_and_told():
    class Locked:
        def __init__(self) -> None:
            self.lock = threading.Lock()
            self.x = torch.zeros(2)

    locked, x = Locked(), torch.ones(2)
    seen = set()

    def model(pair, scale):
        seen.add((id(pair[0]), pair[1].data_ptr()))

    result = il.run(model, [([locked, x], 2)], load=il.ClosedLoop(callers=3), calls=30)
    assert {one for one, _ in seen} == {id(locked)}
    assert len(seen) == 3
    assert x.data_ptr() not in {place for _, place in seen}
    (told,) = [one for one in result.warnings if one.code == "input-shared"]
    assert "argument 'pair' of input 0 has a Locked that cannot be copied" in told.message
    assert "lock" in told.message


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
    ("text", "low", "high"),
    [
        ("1000:int64:0..2000000", 0, 1_999_999),
        ("1000:int8:-3..4", -3, 3),
        ("1000:uint8:0..256", 0, 255),
        ("1000:float32:-1.5..1e1", -1.5, 10),
        ("1000:int64", 0, 1),
    ],
)
def test_values_are_drawn_from_a_range_whose_end_is_left_out(text, low, high):
    (one,) = inputs_from_text([text], seed=0)
    found = one.args[0].double()
    assert low <= float(found.min())
    assert float(found.max()) <= high
    assert float(found.max() - found.min()) > 0.9 * (high - low)


def test_a_spec_makes_several_inputs_with_values_of_their_own():
    read = inputs_from_text(["200x32:int64:0..2000000,mask=200x32:bool x16", "4"], seed=0)
    assert len(read) == 17
    assert len({int(one.args[0].sum()) for one in read[:16]}) == 16
    assert read[0].drawn == "integers drawn from 0..2000000"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2:uint8:0..300", "uint8 cannot hold"),
        ("2:int64:5..5", "is empty"),
        ("2:int64:5..4", "is empty"),
        ("2:int64:0..1.5", "whole numbers"),
        ("2:bool:0..1", "bool has none"),
        ("2:complex64:0..1", "complex64 has none"),
        ("2:float16:0..1e9", "float16 cannot hold"),
        ("2:int64:0..99999999999999999999", "int64 cannot hold"),
        ("2:int64 x0", "asks for 0 inputs"),
        ("2:int64 x99999", "1 to 10,000"),
        ("2:int64:0..", "neither a file"),
        ("2:int64x16", "dtype 'int64x16'"),
    ],
)
def test_a_range_or_count_that_cannot_be_is_refused(text, words):
    with pytest.raises(PlanError, match=words):
        inputs_from_text([text], seed=0)


def test_the_report_says_what_was_drawn_and_warns_of_two_ids():
    model = torch.nn.Embedding(5000, 4).eval()
    two = il.run(model, ["8x4:int64"], calls=20)
    assert "8x4:int64 (integers drawn from 0 and 1)" in str(two)
    (told,) = [one for one in two.warnings if one.code == "two-ids"]
    assert "2 of the 5,000 rows" in told.message
    assert told.hint.endswith("1x128:int64:0..5000")
    every = il.run(model, ["8x4:int64:0..5000 x3"], calls=20)
    assert "integers drawn from 0..5000" in str(every)
    assert "two-ids" not in {one.code for one in every.warnings}
    assert len(every.spec.inputs) == 3


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
