"""The table of options is the one place of an option: a row more is an option more, everywhere."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import inferload as il
from inferload.plan.option_table import DEFAULTS, FLAGS, OPTIONS
from inferload.plan.options import RunOptions

ROOT = Path(__file__).parents[3]
TABLE = Path("inferload", "plan", "option_table.py")
ROW = """
    patience_s: float | None = option(
        None, "errors", flag="patience", unit="time", told=True, metavar="TIME",
        check=partial(check_positive, at_most=60.0), help="A made-up option.",
    )
"""  # fmt: skip
MODEL = """
import torch
model = torch.nn.Linear(2, 2)
inputs = lambda: [torch.zeros(1, 2)]
"""


@pytest.fixture(scope="module")
def with_a_row_more(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package with one row more in its table, and nothing else changed."""
    folder = tmp_path_factory.mktemp("option")
    shutil.copytree(
        Path(il.__file__).parent, folder / "inferload", ignore=shutil.ignore_patterns("__pycache__")
    )
    text = (folder / TABLE).read_text()
    before = "    trace: Path | None = option("
    assert text.count(before) == 1
    (folder / TABLE).write_text(text.replace(before, ROW + before))
    (folder / "m.py").write_text(MODEL)
    return folder


def program(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{folder}:{ROOT / 'docs' / '_ext'}", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("verb", ["run", "sweep", "search", "tune", "compare"])
def test_a_row_more_is_a_flag_of_its_verbs(with_a_row_more: Path, verb: str):
    shown = program(with_a_row_more, "-m", "inferload", verb, "--help").stdout
    assert "--patience TIME" in shown
    assert "A made-up option." in shown


def test_it_is_a_key_of_run_files_in_results_and_in_the_python_that_makes_them_again(
    with_a_row_more: Path,
):
    (with_a_row_more / "run.toml").write_text('model = "m.py"\npatience = 3\ncalls = 20\n')
    ran = program(with_a_row_more, "-m", "inferload", "run", "run.toml", "--json", "r.json")
    assert ran.returncode == 0, ran.stderr
    spec = json.loads((with_a_row_more / "r.json").read_text())["spec"]
    assert spec["more"] == {"patience_s": 3.0}
    told = (
        "from dataclasses import replace; from inferload.report.text.reproduce import reproduction;"
        "import inferload as il; r = il.load_result('r.json');"
        "print(reproduction(replace(r, made_by=None)))"
    )
    assert "patience_s=3.0," in program(with_a_row_more, "-c", told).stdout


def test_what_results_differ_in_is_told(with_a_row_more: Path):
    for value in ("3s", "30s"):
        words = ["run", "m.py", "--patience", value, "--calls", "20", "--json", f"{value}.json"]
        assert program(with_a_row_more, "-m", "inferload", *words).returncode == 0
    both = program(with_a_row_more, "-m", "inferload", "compare", "3s.json", "30s.json")
    assert "patience s: 3.0 -> 30.0" in both.stdout


@pytest.mark.parametrize("text", ["61s", "soon"])
def test_its_value_is_read_and_checked(with_a_row_more: Path, text: str):
    ran = program(with_a_row_more, "-m", "inferload", "run", "m.py", "--patience", text)
    assert ran.returncode == 2
    assert "patience" in ran.stderr if text == "61s" else "'soon'" in ran.stderr


def test_it_is_on_the_reference_page(with_a_row_more: Path):
    code = (
        "from cli_reference import commands, lines_of;"
        "print([line for command in commands() for line in lines_of(*command)])"
    )
    shown = program(with_a_row_more, "-c", code)
    assert "--patience TIME" in shown.stdout, shown.stderr


def test_the_parameters_of_run_are_those_of_the_table():
    """They are written out for type checkers."""
    parameters = inspect.signature(il.run).parameters
    of_objects = {"model", "inputs", "load", "device", "observer"}
    of_the_command_line = {"mode"}
    assert parameters.keys() - of_objects == {row.name for row in OPTIONS} - of_the_command_line
    for row in OPTIONS:
        if row.name in parameters:
            assert parameters[row.name].default == row.default, row.name


def test_what_is_left_out_has_its_default_on_the_command_line_too():
    assert {row.key: row.default for row in FLAGS} == DEFAULTS
    assert all(getattr(RunOptions(), row.name) == row.default for row in OPTIONS)


def test_what_a_result_repeats_has_a_field_of_its_own_or_is_among_the_rest():
    told = RunOptions(calls=7, seed=3).told()
    spec = il.RunSpec.telling(
        told | {"made_up": 1},
        target="m", form="eager", executor="threads", load="", callers=1, warmup="fixed",
        threads_per_call=1, inputs=(), items_per_input=(), grad_mode="", autocast="off",
    )  # fmt: skip
    assert (spec.calls, spec.seed, spec.more["made_up"]) == (7, 3, 1)
