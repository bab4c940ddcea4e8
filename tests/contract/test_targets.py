"""Loading, converting and binding: what is taken, and what is refused in which words."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import SIZED

import inferload as il
from inferload.targets.as_target import as_target, model_from_spec
from inferload.targets.forms import as_form
from inferload.targets.inputs.given import as_call_inputs
from support import models

X = torch.ones(2)
PAIR = {"shift": torch.ones(2)}


def exported() -> torch.export.ExportedProgram:
    return torch.export.export(models.Affine(), (X, PAIR), {"scale": 2})


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((X, 3), {}, "argument 'pair'"),
        ((X,), {}, "argument 'pair'"),
        ((X, PAIR), {"wrong": 1}, "'wrong'"),
        ((X, PAIR), {"scale": "three"}, "argument 'scale'"),
    ],
)
def test_a_wrong_argument_of_a_script_module_is_named_at_once(args, kwargs, words):
    calls = []
    module = torch.jit.script(models.Affine())
    with pytest.raises(il.PlanError, match=words):
        il.run(module, [(X, PAIR), il.CallInput(args, kwargs)], calls=5)
    assert calls == []


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((X, PAIR), {}, "argument 'scale' is missing"),
        ((X, PAIR), {"scale": 2, "wrong": 1}, "argument 'wrong' is unknown"),
        ((X,), {"scale": 2}, "2 positional, scale="),
        ((X, [X]), {"scale": 2}, "argument 1: .* dict of 1 with keys"),
        ((torch.ones(3), PAIR), {"scale": 2}, "argument 'x': .* size 2 in dimension 0, .* 3"),
        ((X.double(), PAIR), {"scale": 2}, r"argument 'x': .* torch\.float32"),
        ((X[None], PAIR), {"scale": 2}, "argument 'x': .* 1 dimensions"),
        ((X, PAIR), {"scale": 3}, "argument 'scale': .* exported for 2"),
        (("x", PAIR), {"scale": 2}, "argument 'x': .* takes a tensor"),
    ],
)
def test_a_wrong_argument_of_an_exported_program_is_named_at_once(args, kwargs, words):
    with pytest.raises(il.PlanError, match=words):
        il.run(exported(), [il.CallInput(args, kwargs)], calls=5)


def test_a_dynamic_dimension_takes_the_sizes_it_was_exported_for():
    target = as_form(models.mlp(), "export", as_call_inputs(SIZED))
    assert il.run(target, [torch.randn(40, 8)], calls=5).summary.completed_calls == 5
    with pytest.raises(il.PlanError, match="size 8 in dimension 1"):
        il.run(target, [torch.randn(40, 9)], calls=5)


def test_files_of_every_kind_load(tmp_path: Path):
    script, program = tmp_path / "s.pt", tmp_path / "e.pt2"
    torch.jit.save(torch.jit.script(models.mlp()), script)
    torch.export.save(torch.export.export(models.mlp(), (SIZED[1],)), program)
    assert il.run(script, SIZED, calls=5).spec.form == "script"
    assert il.run(str(program), [SIZED[1]], calls=5).spec.form == "export"


def test_a_file_that_is_no_model_is_refused_in_a_sentence(tmp_path: Path):
    state, junk, other = tmp_path / "state.pt", tmp_path / "junk.pt2", tmp_path / "model.onnx"
    torch.save(models.mlp().state_dict(), state)
    junk.write_bytes(b"junk")
    other.write_bytes(b"")
    for path, words in [
        (state, "state dict or a pickled module"),
        (junk, "damaged or no archive"),
        (other, "no model file that inferload knows"),
        (tmp_path / "none.pt", "there is no model file"),
    ]:
        with pytest.raises(il.PlanError, match=words):
            as_target(path)
    junk_script = tmp_path / "junk.pt"
    junk_script.write_bytes(b"PK junk")
    with pytest.raises(il.PlanError, match="damaged"):
        as_target(junk_script)


@pytest.mark.parametrize("model", [3, None, ["model"]])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(il.PlanError, match="is no model"):
        as_target(model)


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(
        "import torch\n"
        "def model():\n    return torch.nn.Linear(2, 2)\n"
        "made = torch.nn.ReLU()\n"
        "number = 3\n"
        "def broken():\n    raise KeyError('weights')\n"
        "def inputs():\n    return [torch.zeros(1, 2)]\n"
    )
    return path


def test_a_spec_names_a_module_or_a_function_in_a_file(model_file: Path):
    model, inputs = model_from_spec(str(model_file))
    assert isinstance(model, torch.nn.Linear)
    assert len(inputs) == 1
    assert isinstance(model_from_spec(f"{model_file}:made")[0], torch.nn.ReLU)


def test_a_spec_names_a_module_that_is_installed():
    model, inputs = model_from_spec("support.models:mlp")
    assert isinstance(model, torch.nn.Sequential)
    assert inputs is None


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("{file}:nothing", "defines no 'nothing'; it defines .*model"),
        ("{file}:number", "'number' in .* is a int"),
        ("{file}:broken", r"broken\(\) in .* failed: KeyError: 'weights' \(.*mine.py:7\)"),
        ("no/such/file.py", "there is no model file"),
        ("no.such.module:name", "ModuleNotFoundError"),
        ("nonsense", "no model file nonsense"),
    ],
)
def test_a_spec_that_names_nothing_is_refused(model_file: Path, spec: str, words: str):
    with pytest.raises(il.PlanError, match=words):
        model_from_spec(spec.format(file=model_file))


def test_a_file_finds_its_neighbours_also_when_it_imports_them_late(tmp_path: Path):
    (tmp_path / "a_neighbour_of_mine.py").write_text(
        "import torch\nlayer = torch.nn.Linear(2, 2)\n"
    )
    path = tmp_path / "late.py"
    path.write_text("def model():\n    from a_neighbour_of_mine import layer\n    return layer\n")
    assert isinstance(model_from_spec(str(path))[0], torch.nn.Linear)


def test_a_scripted_function_is_torchscript_without_a_module():
    @torch.jit.script
    def doubled(x):
        return x * 2

    target = as_form(doubled, "script", as_call_inputs([X]))
    assert (target.form, target.name) == ("script", "doubled")
    assert il.run(target, [X], calls=5).spec.executor == "threads"


def test_a_program_as_a_module_is_run_in_the_mode_it_was_exported_in(tmp_path: Path):
    path = tmp_path / "exported.py"
    path.write_text(
        "import torch\nX = torch.zeros(1, 2)\n"
        "def model():\n    return torch.export.export(torch.nn.Linear(2, 2), (X,)).module()\n"
        "def inputs():\n    return [X]\n"
    )
    assert il.run(f"{path}:model", calls=5).summary.completed_calls == 5


def test_a_file_with_a_syntax_error_is_refused(tmp_path: Path):
    path = tmp_path / "bad.py"
    path.write_text("def model(:\n")
    with pytest.raises(il.PlanError, match="SyntaxError"):
        model_from_spec(str(path))


def test_what_cannot_be_scripted_is_traced_and_says_so():
    class Untypable(torch.nn.Module):
        def forward(self, x, **kwargs):
            return {"y": x + 1}

    target = as_form(Untypable(), "script", as_call_inputs([X]))
    result = il.run(target, [X], calls=5)
    assert result.spec.form == "script"
    assert "traced" in [one.code for one in result.warnings]


def test_a_form_that_computes_something_else_is_refused():
    class Branches(torch.nn.Module):
        def forward(self, x, **kwargs):
            return x if bool(x.sum() > 0) else -x * 2

    with pytest.raises(
        il.PlanError, match="differs from the eager model's output on input 1: 2 of 2"
    ):
        as_form(Branches(), "script", as_call_inputs([X, -X]))


@pytest.mark.parametrize(
    ("model", "form", "words"),
    [
        (models.mlp(), "onnx", "form 'onnx' is unknown"),
        (lambda x: x, "script", "function or another callable, and only an nn.Module"),
        (torch.jit.script(models.mlp()), "export", "in the form 'script' already"),
    ],
)
def test_a_form_that_cannot_be_had_is_refused(model, form, words):
    with pytest.raises(il.PlanError, match=words):
        as_form(model, form, as_call_inputs(SIZED))


def test_inputs_of_different_structure_cannot_be_exported_together():
    with pytest.raises(il.PlanError, match="differ in structure"):
        as_form(models.Affine(), "export", as_call_inputs([(X, PAIR), (X, PAIR, 2)]))


@pytest.mark.slow
def test_a_wrong_input_of_an_aoti_package_is_refused(package: Path):
    with pytest.raises(il.PlanError, match="takes 1 positional"):
        il.run(package, [(X, X)], calls=5)


@pytest.mark.slow
def test_an_aoti_package_gives_what_the_eager_model_gives(package: Path):
    target = as_target(package)
    for x in SIZED:
        with torch.no_grad():
            torch.testing.assert_close(target.python_callable()(x), models.mlp()(x))


@pytest.mark.native
@pytest.mark.parametrize("executor", ["threads", "native"])
def test_a_scripted_module_that_was_called_with_gradients_runs_without(executor: str):
    class Gated(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)

        def forward(self, x):
            return torch.tanh(self.outer(torch.sigmoid(self.inner(x)) * x) + x)

    module, x = torch.jit.script(Gated().eval()), torch.randn(2, 8)
    for _ in range(3):
        module(x)  # torch keeps what it made of the graph in these
    with torch.inference_mode():
        with pytest.raises(RuntimeError, match="Inference tensors cannot be saved"):
            module(x)
        assert il.run(module, [x], calls=10, executor=executor).summary.completed_calls == 10
