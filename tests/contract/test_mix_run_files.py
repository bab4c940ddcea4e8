"""Mixes of models as run files write them, on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

import inferload as il
from support.program import inferload, inferload_here

FILE = """
import torch
class Model(torch.nn.Module):
    def forward(self, x):
        if bool(x.sum() < 0):
            raise ValueError("negative input")
        return x * 2
def model():
    return Model()
def linear():
    return torch.nn.Linear(8, 4)
def inputs():
    return [torch.ones(1, 2), torch.ones(2, 2)]
"""


def run(*words: object) -> tuple[int, str, str]:
    done = inferload_here("run", *words)
    return done.returncode, done.stdout, " ".join(done.stderr.split())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(FILE)
    return tmp_path


def test_a_run_file_has_every_option_and_the_command_line_the_last_word(folder: Path):
    file, saved = folder / "mix.toml", folder / "r.json"
    file.write_text(
        'callers = 2\nduration = "60s"\nseed = 5\nthreads_per_call = 1\n'
        "verify = true\nquiet = true\n"
        '[models.double]\nmodel = "mine.py:model"\nweight = 0.6\n'
        '[models.linear]\nmodel = "mine.py:linear"\nform = "script"\ninputs = ["4x8"]\n'
        "weight = 0.4\n"
    )
    code, shown, said = run(file, "--calls", 500, "--seed", 9, "--processes", 2, "--json", saved)
    assert code == 0, said
    result = il.load_result(saved)
    spec = result.spec
    assert (spec.callers, spec.processes, spec.seed, spec.calls) == (4, 2, 9, 500)
    assert (spec.duration_s, spec.threads_per_call, spec.verify) == (None, 1, True)
    assert [(one.name, one.form, one.weight) for one in spec.models] == [
        ("double", "eager", 0.6),
        ("linear", "script", 0.4),
    ]
    assert sum(one.completed_calls for one in result.models) == 500
    assert "linear" in shown


def test_a_run_file_of_one_model_is_that_model(folder: Path):
    file, saved = folder / "one.toml", folder / "r.json"
    file.write_text(
        f'model = "mine.py:linear"\ninputs = ["4x8"]\ncalls = 50\njson = "{saved}"\n'
        "isolate = false\n"
    )
    done = inferload("run", file)
    assert done.returncode == 0, done.stderr
    result = il.load_result(saved)
    assert (result.spec.target, result.spec.isolated) == ("Linear", False)
    assert result.models == ()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("callers = = 2", "mix.toml is no TOML: Invalid value (at line 1, column 11)"),
        ('model = "a.py"\ncalers = 2\n', "line 2: calers: there is no such key; callers may be"),
        ('model = "a.py"\nmax-batch = 2\n', "no such key; max_batch may be meant"),
        ('model = "a.py"\nxyz = 2\n', "line 2: xyz: there is no such key"),
        ('[models.a]\nmodl = "a.py"\n', "models.a.modl: there is no such key; model may be"),
        ('model = "a.py"\ncallers = "two"\n', "line 2: callers: input should be a valid integer"),
        (
            '[models.a]\nmodel = "a.py"\nweight = 0\n',
            "line 3: models.a.weight: input should be greater than 0",
        ),
        ("[models.a]\nweight = 1\n", "line 1: models.a.model: field required"),
        ("callers = 2\n", "has neither: give it model = ..., or [models.NAME] tables"),
        ('model = "x.py"\n[models.a]\nmodel = "a.py"\n', "has both: give it model"),
        ('form = "script"\n[models.a]\nmodel = "a.py"\n', "form and inputs belong into each"),
        ('model = "gone.py"\n', "there is no model file"),
        ('[models.a]\nmodel = "gone.py:x"\n', "a: there is no model file"),
        ('model = "mine.py:linear"\ncalls = 5\nduration = 3\n', "both given"),
    ],
)
def test_what_is_wrong_with_a_run_file_is_said_by_file_line_or_key(text, sentence, folder: Path):
    file = folder / "mix.toml"
    file.write_text(text)
    code, _, said = run(file)
    assert code == 2
    assert sentence in said
    assert "Traceback" not in said


def test_a_run_file_that_is_not_there_is_wrong_use(folder: Path):
    code, _, said = run(folder / "gone.toml")
    assert code == 2
    assert "cannot be read" in said


def test_a_run_file_gives_models_callers_of_their_own(folder: Path):
    text = (
        'duration = "0.5s"\nrate = 400\n'
        '[models.double]\nmodel = "mine.py:model"\ncallers = 2\n'
        '[models.linear]\nmodel = "mine.py:linear"\ninputs = ["1x8"]\n'
    )
    file, saved = folder / "mix.toml", folder / "r.json"
    file.write_text(text)
    code, _, said = run(file)
    assert code == 2
    assert "linear has no callers of its own" in said
    file.write_text(text + "callers = 1\n")
    code, shown, said = run(file, "--json", saved)
    assert code == 0, said
    assert il.load_result(saved).spec.callers_by_lane == (2, 1)
    assert "(2 double + 1 linear)" in " ".join(shown.split())
    code, _, said = run(file, "--callers", 7)
    assert code == 2
    assert "7 callers were asked for, and the models have 3" in said


def test_a_crash_names_the_caller_and_input_by_their_numbers_in_the_process(folder: Path):
    text = FILE + (
        "\n\nclass Dies(torch.nn.Module):\n"
        "    made = 0\n"
        "    def forward(self, x):\n"
        "        self.made += 1\n"
        "        if self.made > 60 and len(x) == 2:\n"
        "            import os\n"
        "            os.abort()\n"
        "        return x\n"
        "def dies():\n"
        "    return Dies()\n"
    )
    (folder / "mine.py").write_text(text)
    file, saved = folder / "mix.toml", folder / "r.json"
    file.write_text(
        'duration = "20s"\n'
        '[models.double]\nmodel = "mine.py:model"\ncallers = 2\n'
        '[models.dies]\nmodel = "mine.py:dies"\ncallers = 1\n'
    )
    code, _, said = run(file, "--json", saved, "--processes", 2)
    assert code == 3
    assert "was ended by SIGABRT" in said
    result = il.load_result(saved)
    died = next(one for one in result.processes if one.ending is not None)
    # two callers of the other model come first, and its two inputs; those may be in a call as well
    assert (2, 3) in died.ending.in_flight
    assert all(caller == 2 or number < 2 for caller, number in died.ending.in_flight)
    mine = result.log.process == died.process
    assert 30 <= int((mine & (result.log.input >= 2)).sum()) <= 60
