"""Models and inputs on their way to other processes: sent, rebuilt from their words, or refused."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest
import torch
from conftest import SIZED

import inferload as il
from inferload.callers.processes.weights import weights_of
from inferload.targets.as_target import as_target, model_from_spec
from support import models
from support.program import inferload_here, run

pytestmark = pytest.mark.multiprocess


PY_FILE = """
import torch
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 2)
        self.hook = lambda x: x  # which no pickle takes
    def forward(self, x):
        return self.hook(self.linear(x))
def model():
    return Model()
"""


def test_a_model_that_cannot_be_pickled_is_rebuilt_from_its_spec(tmp_path: Path):
    path = tmp_path / "mine.py"
    path.write_text(PY_FILE)
    result = il.run(f"{path}:model", [torch.zeros(1, 8)], processes=2, calls=50, verify=True)
    assert len(result.log) == 50
    words = ("--processes", 2, "--inputs", "1x8", "--calls", 50, "--verify")
    done = inferload_here("run", f"{path}:model", *words)
    assert done.returncode == 0, done.stderr
    assert "yes: " in done.stdout


def test_a_model_that_cannot_be_pickled_and_has_no_spec_is_refused_with_what_to_do():
    with pytest.raises(il.PlanError, match=r"cannot be pickled.*give il.run 'path/file.py:name'"):
        il.run(lambda x: x, [SIZED[0]], processes=2, calls=10)


ODD = """
import threading, torch
class Custom(torch.Tensor):
    def __reduce_ex__(self, protocol):
        return _refuse, ()
def _refuse():
    raise RuntimeError("this tensor is of one process")
class Holds:
    def __init__(self, x):
        self.x, self.lock = x, threading.Lock()
class Model(torch.nn.Module):
    def forward(self, x):
        return x.x if isinstance(x, Holds) else x
def locks():
    found = torch.nn.Linear(8, 2)
    found.lock, found.file = threading.Lock(), open("/dev/null")
    return found
def refuses():
    found = Model()
    found.weight = torch.ones(3).as_subclass(Custom)
    return found
def function():
    return lambda x: x + 1
def holds():
    return Model()
def inputs():
    from inferload import CallInput
    return [CallInput(args=(Holds(torch.ones(1, 8)),))] if HOLDS else [torch.ones(1, 8)]
"""


@pytest.mark.parametrize(
    ("name", "shares"), [("locks", True), ("refuses", False), ("function", False), ("holds", True)]
)
def test_what_cannot_be_sent_comes_from_its_spec_in_each_process(name, shares, tmp_path: Path):
    path = tmp_path / "odd.py"
    path.write_text(ODD.replace("HOLDS", str(name == "holds")))
    words = ("--processes", 2, "--calls", 50, "--json", tmp_path / "r.json")
    done = inferload_here("run", f"{path}:{name}", *words)
    assert done.returncode == 0, done.stderr
    result = il.load_result(tmp_path / "r.json")
    assert result.summary.completed_calls == 50
    said = [one for one in result.warnings if one.code == "weights-not-shared"]
    assert len(said) == (not shares)
    assert all(f"loaded it from {path}:{name}" in one.message for one in said)


@pytest.mark.filterwarnings("ignore:.*quantiz.*")
def test_quantised_models_and_inputs_are_sent_whole():
    quantised = torch.ao.quantization.quantize_dynamic(
        models.mlp(), {torch.nn.Linear}, dtype=torch.qint8
    )
    result = il.run(quantised, [SIZED[0]], processes=2, calls=50, verify=True)
    assert result.verification.differing == 0
    assert [one.code for one in result.warnings].count("weights-not-shared") == 1
    given = torch.quantize_per_tensor(torch.ones(1, 8), 0.1, 0, torch.qint8)
    for odd in (given, SIZED[1].to_sparse(), SIZED[1].to(torch.complex64)):
        assert len(il.run(models.NoOp(), [odd], processes=2, calls=20).log) == 20


class HoldsALock:
    def __init__(self) -> None:
        self.lock = threading.Lock()


def test_inputs_that_cannot_be_sent_are_refused_with_what_to_do(tmp_path: Path):
    odd = [il.CallInput(args=(HoldsALock(),))]
    sentence = r"the inputs cannot be pickled .*let inputs\(\) in that file make them"
    with pytest.raises(il.PlanError, match=sentence):
        il.run(models.NoOp(), odd, processes=2, calls=10)
    path = tmp_path / "mine.py"
    path.write_text(PY_FILE)
    with pytest.raises(il.PlanError, match=sentence):  # not those that the file may define
        il.run(f"{path}:model", odd, processes=2, calls=10)


def test_a_class_that_another_process_does_not_find_is_refused_with_what_to_do(monkeypatch):
    class Model(torch.nn.Module):
        def forward(self, x):
            return x

    monkeypatch.setattr(models, "Passing", Model, raising=False)
    Model.__module__, Model.__qualname__ = "support.models", "Passing"
    with pytest.raises(il.PlanError, match="cannot be unpickled in another process"):
        il.run(Model(), [SIZED[0]], processes=1, calls=10)


def test_a_script_without_a_main_guard_is_told_of_it(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, torch, inferload as il\n"
        "il.run(torch.nn.Linear(2, 2), [torch.zeros(1, 2)], processes=2, calls=10)\n"
    )
    done = run([sys.executable, str(script)])
    assert "under if __name__ == '__main__'" in done.stderr.splitlines()[-1]


SAVED_BUT_NOT_LOADED = """
import torch
class Normed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    def forward(self, x):
        return self.layers(x)
def model():
    torch.manual_seed(0)
    return torch.jit.optimize_for_inference(torch.jit.script(Normed().eval()))
def inputs():
    return [torch.ones(1, 3, 8, 8)]
"""


@pytest.mark.multiprocess
def test_a_model_whose_file_torch_cannot_load_is_rebuilt_by_each_process(tmp_path: Path):
    path = tmp_path / "optimised.py"
    path.write_text(SAVED_BUT_NOT_LOADED)
    result = il.run(f"{path}:model", processes=2, calls=20, verify=True)
    assert result.summary.completed_calls == 20
    assert (result.verification.compared, result.verification.differing) == (20, 0)
    built = model_from_spec(f"{path}:model")[0]
    with pytest.raises(il.PlanError, match=r"cannot be loaded there .*give 'path/file.py:name'"):
        il.run(built, [torch.ones(1, 3, 8, 8)], processes=2, calls=20)


class OfItsOwnKind(torch.Tensor):
    """As tensors of quantisers: they cannot be detached in inference mode."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is torch.Tensor.detach:
            raise RuntimeError("Cannot set version_counter for inference tensor")
        return super().__torch_function__(func, types, args, kwargs or {})


def test_tensors_of_other_classes_share_no_memory():
    layer = torch.nn.Linear(4, 4)
    layer.register_buffer("own", torch.ones(4).as_subclass(OfItsOwnKind))
    assert sorted(weights_of(as_target(layer))) == ["bias", "weight"]
