"""Models of one name: told apart by their weights, in whatever form, and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch

import inferload as il
from inferload.errors import PlanError
from inferload.report.text.several import side_by_side
from inferload.runs.saved import load_result
from inferload.studies.compare_results import compared_results
from inferload.studies.differences import gate_from_text
from inferload.studies.local.bench import LocalBench
from inferload.studies.local.outputs import Outputs, outputs_of, told_apart
from inferload.targets.as_target import as_target
from inferload.targets.fingerprint import fingerprint_of
from inferload.targets.forms import as_form


class Net(torch.nn.Module):
    """Of one name, and of any width."""

    def __init__(self, width: int = 4, dtype: torch.dtype = torch.float32, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.linear = torch.nn.Linear(4, width, dtype=dtype)
        self.register_buffer("scale", torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.to(self.linear.weight.dtype)) * self.scale.sum()


INPUTS = [il.CallInput((torch.zeros(1, 4),))]


def frozen(net: Net) -> torch.jit.ScriptModule:
    return torch.jit.freeze(torch.jit.script(net.eval()))


def made(form: str, net: Net) -> object:
    return as_form(net.eval(), form, INPUTS)


MAKERS = {
    "eager": lambda net: net,
    "script": torch.jit.script,
    "frozen": frozen,
    "export": partial(made, "export"),
    "compile": torch.compile,
    "a method": lambda net: net.forward,
}
OTHERS = {
    "wider": {"width": 8},
    "another dtype": {"dtype": torch.float64},
    "other values": {"seed": 1},
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_models_of_one_name_are_told_apart_in_every_form(make):
    found = fingerprint_of(as_target(make(Net())))
    assert fingerprint_of(as_target(make(Net()))) == found
    others = {name: fingerprint_of(as_target(make(Net(**how)))) for name, how in OTHERS.items()}
    assert others["wider"].values_held == found.values_held + 20
    for name in ("wider", "another dtype"):
        assert others[name].layout != found.layout
        assert others[name].of == found.of
    assert others["other values"].layout == found.layout
    assert others["other values"].content != found.content


@pytest.mark.parametrize("form", ["script", "export", "compile", "cudagraph"])
def test_forms_of_one_model_have_one_fingerprint(form: str):
    assert fingerprint_of(made(form, Net())) == fingerprint_of(as_target(Net()))


@dataclass
class Found:
    y: torch.Tensor


class Finds(Net):
    """Whose output is of a class of its own."""

    def forward(self, x: torch.Tensor) -> Found:
        return Found(super().forward(x))


@pytest.mark.parametrize("form", ["script", "export"])
def test_a_form_that_returns_the_tensors_of_an_output_has_the_models_fingerprint(form: str):
    target = made(form, Finds())
    assert fingerprint_of(target) == fingerprint_of(as_target(Finds()))
    eager, other = outputs_of(as_target(Finds().eval()), INPUTS), outputs_of(target, INPUTS)
    assert told_apart(eager, other) == (True, "the same on 1 input")


@pytest.mark.parametrize(
    ("seeds", "shift", "what"),
    [((0, 1), 0, "weights"), ((0, 0), 1, "inputs"), ((0, 1), 1, "weights and inputs")],
)
def test_what_is_made_anew_for_each_side_is_said_before_that_outputs_differ(seeds, shift, what):
    def side(number: int, origin: str | None) -> Outputs:
        given = [il.CallInput((torch.ones(1, 4) + shift * number,))]
        return outputs_of(as_target(Net(seed=seeds[number]).eval()), given, origin)

    alike, said = told_apart(side(0, "net.py"), side(1, "net.py"))
    assert alike
    assert said.startswith(f"not compared: A and B have other values in their {what}, so")
    assert said.index("torch.manual_seed(0) in") < said.index("by up to")
    for origins in ((None, None), ("net.py", "other.py")):
        alike, said = told_apart(side(0, origins[0]), side(1, origins[1]))
        assert not alike
        assert said.startswith("differ on input 0, by up to")
        assert f"other values in their {what}" in said


@pytest.mark.parametrize("seed", ["", "torch.manual_seed(0)"])
def test_a_file_that_is_loaded_for_each_side_is_known_as_one(tmp_path, seed):
    path = tmp_path / "net.py"
    path.write_text(
        f"import torch\ndef model():\n    {seed}\n    return torch.nn.Linear(4, 4).eval()\n"
        "def inputs():\n    return [torch.ones(1, 4)]\n"
    )
    sides = [LocalBench.of_model(str(path), None).outputs() for _ in range(2)]
    alike, said = told_apart(*sides)
    assert alike
    assert said.startswith("the same" if seed else "not compared: A and B have other values in")


def test_outputs_that_differ_for_no_other_weights_or_inputs_differ():
    one = outputs_of(as_target(Net().eval()), [il.CallInput((torch.ones(1, 4),))], "net.py")
    other = replace(one, form="script", leaves=[[one.leaves[0][0], one.leaves[0][1] + 1]])
    assert told_apart(one, other) == (False, "differ on input 0, by up to 1")


def twice(x: torch.Tensor) -> torch.Tensor:
    return x * 2


def test_functions_are_told_apart_by_their_code_and_what_has_none_is_not():
    first = fingerprint_of(as_target(twice))
    names = {"torch": torch}
    exec("def twice(x):\n    return x * 3", names)  # noqa: S102 - a function of the same name
    other = fingerprint_of(as_target(names["twice"]))
    assert first.of == other.of
    assert first.content != other.content
    assert fingerprint_of(as_target(torch.sin)) is None
    a, b = (il.run(one, [torch.zeros(1)], calls=60) for one in (twice, names["twice"]))
    (said,) = compared_results(a, b, ("a", "b")).unlike
    assert said.startswith("the model: twice has another code, Python 3.")


class Odd(torch.nn.Module):
    """Whose own state cannot be asked for."""

    def state_dict(self, *_: object, **__: object) -> dict[str, object]:
        raise RuntimeError("no")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_what_cannot_be_asked_for_its_state_runs_without_a_fingerprint():
    result = il.run(Odd().eval(), [torch.zeros(1, 4)], calls=5)
    assert (result.status, result.spec.fingerprint) == ("complete", None)


def run(**how: object) -> il.RunResult:
    with torch.no_grad():
        return il.run(Net(**how).eval(), [torch.zeros(1, 4)], calls=60)


def test_a_comparison_of_results_says_first_that_it_is_of_two_models(tmp_path):
    a, b = run(), run(width=8)
    a.save(tmp_path / "a.json")
    found = compared_results(load_result(tmp_path / "a.json"), b, ("a", "b"))
    said = "the model: Net has 23 values in its weights in A and 43 in B"
    assert found.unlike[0] == said
    assert str(found).index(said) < str(found).index("B / A")
    assert compared_results(a, run(), ("a", "b")).unlike == ()
    (said,) = compared_results(a, run(seed=1), ("a", "b")).unlike
    assert said == "the model: Net has other values in its weights in B, of the same shapes"
    (said,) = compared_results(a, run(dtype=torch.float64), ("a", "b")).unlike
    assert "23 values in its weights, in other shapes, dtypes or names in B" in said


def test_a_gate_is_of_one_model_and_refused_of_two():
    gate = gate_from_text("p50 +5%")
    with pytest.raises(PlanError, match=r"23 values .* 43 in B .*leave it out to see.*in pairs"):
        compared_results(run(), run(width=8), ("a.json", "b.json"), (gate,))
    assert compared_results(run(), run(seed=1), ("a", "b"), (gate,)).gates


def test_models_of_a_mix_are_told_apart_by_name():
    def mixed(width: int) -> il.RunResult:
        both = {"small": (Net().eval(), INPUTS, 1.0), "large": (Net(width).eval(), INPUTS, 1.0)}
        return il.run(il.Mix(both), calls=60)

    found = compared_results(mixed(8), mixed(16), ("a", "b"))
    assert found.unlike[0] == "the model: large has 43 values in its weights in A and 83 in B"


def test_results_that_are_older_than_fingerprints_are_compared_as_before():
    a, b = run(), run(width=8)
    old = replace(a, spec=replace(a.spec, fingerprint=None))
    assert not any("the model" in line for line in compared_results(old, b, ("a", "b")).unlike)


def test_runs_side_by_side_are_named_by_their_size_if_their_name_does_not_tell_them():
    assert list(side_by_side([run(), run(width=8)])) == [
        "Net (eager), 1x, 23 values in its weights",
        "Net (eager), 1x, 43 values in its weights",
    ]
    assert list(side_by_side([run(), run()])) == ["Net (eager), 1x #1", "Net (eager), 1x #2"]


@pytest.mark.multiprocess
def test_models_at_two_revisions_or_in_two_files_are_told_apart_in_pairs(tmp_path):
    text = (
        "import torch\nclass Net(torch.nn.Linear):\n    pass\n"
        "def model():\n    torch.manual_seed(0)\n    return Net(4, {width}).eval()\n"
        "def inputs():\n    return [torch.zeros(1, 4)]\n"
    )
    for name, width in (("a", 4), ("b", 8)):
        (tmp_path / f"{name}.py").write_text(text.format(width=width))
    found = il.compare(str(tmp_path / "a.py"), str(tmp_path / "b.py"), calls=60, gates="p50 +900%")
    assert found.unlike == ("the model: Net has 20 values in its weights in A and 40 in B",)
    assert found.gates
