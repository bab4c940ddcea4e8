"""What a name in a user's file stands for, and what its inputs() may return."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import inferload as il
from inferload.errors import PlanError
from inferload.targets.as_target import model_from_spec
from inferload.targets.inputs.given import inputs_from_text
from inferload.targets.loading import target_and_inputs

MODELS = """
import functools, torch
from torch.utils.data import DataLoader, TensorDataset

m = torch.nn.Linear(4, 4).eval()
class Net(torch.nn.Module):
    def __init__(self, size=4):
        super().__init__()
        self.layer = torch.nn.Linear(size, 4)
    def forward(self, x): return self.layer(x)
class Needs(torch.nn.Module):
    def __init__(self, size, depth): super().__init__()
class Called:
    def __call__(self, x=None): return m(x)
    def run(self, x): return m(x)
class NotCalled: pass

def predict(x): return m(x).softmax(-1)
@torch.inference_mode()
def decorated(x, scale=2): return m(x) * scale
called = Called()
method = called.run
partial = functools.partial(torch.nn.functional.softmax, dim=-1)
scripted = torch.jit.script(m)
script_function = torch.jit.script(lambda_ := torch.nn.ReLU())
compiled = torch.compile(m, backend="eager")
of_c = torch.relu
def factory(): return Net()
def makes_function(): return predict
def configured(size=4): return Net(size)
def defaults(x=torch.ones(1, 4)): return m(x)
def star(*xs): return m(*xs)
def config_needed(config): return Net()
def nothing(): return None
number = 3
def inputs(): return [torch.ones(1, 4)]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "named.py"
    path.write_text(MODELS)
    return path


@pytest.mark.parametrize(
    ("name", "target", "form"),
    [
        ("m", "Linear", "eager"),
        ("Net", "Net", "eager"),
        ("Called", "Called", "callable"),
        ("predict", "predict", "callable"),
        ("decorated", "decorated", "callable"),
        ("called", "Called", "callable"),
        ("method", "Called.run", "callable"),
        ("partial", "partial", "callable"),
        ("scripted", "Linear", "script"),
        ("script_function", "ReLU", "script"),
        ("compiled", "Linear", "compile"),
        ("of_c", "_VariableFunctionsClass.relu", "callable"),
        ("factory", "Net", "eager"),
        ("makes_function", "predict", "callable"),
        ("configured", "Net", "eager"),
    ],
)
def test_a_name_is_a_model_or_makes_one_by_its_signature(file, name, target, form):
    result = il.run(f"{file}:{name}", calls=5, executor="threads")
    assert (result.spec.target, result.spec.form) == (target, form)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "Needs",
            r"cannot be made without size, depth: .*return Needs\(size=\.\.\., depth=\.\.\.\)",
        ),
        ("NotCalled", "cannot be called: give its class a __call__"),
        ("defaults", r"returned a Tensor, which is no model; .*def model\(\): return defaults"),
        ("star", r"star\(\) in .* failed: .*def model\(\): return star"),
        ("config_needed", "returns a module and computes nothing"),
        ("nothing", "returned None"),
        ("number", "'number' in .* is a int"),
    ],
)
def test_what_is_neither_is_refused_with_what_to_write(file, name, words):
    with pytest.raises(PlanError, match=words):
        il.run(f"{file}:{name}", calls=5)


def test_what_the_refusals_tell_to_write_works(file):
    way = "\ndef model(): return defaults\n"
    file.write_text(MODELS + way)
    assert il.run(str(file), calls=5).spec.target == "defaults"


def given(path: Path, returned: str) -> tuple[il.CallInput, ...] | None:
    path.write_text(MODELS + f"\ndef model(): return m\n{returned}\n")
    return model_from_spec(str(path))[1]


@pytest.mark.parametrize(
    ("returned", "counts"),
    [
        ("def inputs(): return DataLoader(TensorDataset(torch.zeros(6, 4)), batch_size=2)", (3, 2)),
        ("def inputs(): yield from [torch.zeros(2, 4)] * 4", (4, 2)),
        ("def inputs(): return (torch.zeros(2, 4),)", (1, 2)),
        ("inputs = [torch.zeros(3, 4)]", (1, 3)),
        ("def inputs(): return ['5x4', '5x4:float32:0..1 x2']", (3, 5)),
    ],
)
def test_inputs_may_be_whatever_gives_some_and_ends(tmp_path, returned, counts):
    read = given(tmp_path / "own.py", returned)
    assert (len(read), read[0].items) == counts


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (
            "def inputs(): return torch.zeros(3)",
            r"inputs\(\) in .*own.py: .*not one Tensor: put it",
        ),
        ("def inputs(): return {'x': torch.zeros(3)}", "not one dict: put it in a list"),
        ("def inputs(): return None", "returned None: it must return a list"),
        ("def inputs(): return 3", "not int"),
        ("def inputs(): return [3]", r"input 0 is a int: .*CallInput"),
        (
            "def inputs():\n    while True: yield torch.zeros(1)",
            "generator that had not ended after 10,000",
        ),
    ],
)
def test_inputs_that_are_none_are_refused_in_a_sentence(tmp_path, returned, words):
    with pytest.raises(PlanError, match=words):
        given(tmp_path / "own.py", returned)


def test_a_file_of_one_input_and_one_of_several_are_read_alike(tmp_path):
    x = torch.zeros(2, 4)
    for content, count in ((x, 1), ({"x": x}, 1), ((x, 3), 1), ([x, [x, 3], {"x": x}], 3)):
        torch.save(content, tmp_path / "own.pt")
        read = inputs_from_text([str(tmp_path / "own.pt")], 0)
        assert [one.items for one in read] == [2] * count


def test_a_file_may_name_or_make_a_program_for_each_size(tmp_path: Path):
    (tmp_path / "sizes.py").write_text(
        "import torch\n"
        "programs = {1: torch.nn.Identity(), 4: torch.nn.Identity()}\n"
        "def model():\n"
        "    return programs\n"
        "def wrong():\n"
        "    return {'a': 1}\n"
    )
    for name in ("programs", "model"):
        target, _ = target_and_inputs(f"{tmp_path}/sizes.py:{name}", [torch.ones(1)])
        assert target.sizes == (1, 4)
    with pytest.raises(il.PlanError, match="returned a dict, which is no model"):
        target_and_inputs(f"{tmp_path}/sizes.py:wrong", [torch.ones(1)])
