"""The plugin in sessions of its own, as a user's project runs it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

import inferload as il
from inferload.studies.records.suite import load_suite
from support.program import run

# Each call takes as long of a simulated clock as DELAY says, so that a run is slower than another
# by just that, whatever the machine does.
TEST = """
import os
import torch
from inferload.callers.python.executor import ThreadsExecutor
from support.virtual_time import VirtualClock

CLOCK = VirtualClock()

class Waits(torch.nn.Module):
    def forward(self, x):
        CLOCK.sleep(round(float(os.environ["DELAY"]) * 1e9))

def options():
    return dict(executor=ThreadsExecutor(CLOCK))

def test_it(inferload_bench):
    result = inferload_bench(Waits().eval(), [torch.zeros(1)], duration_s=0.5, **options())
    assert result.summary.failed_calls == 0
"""
HELPERS = Path(__file__).parents[1]


def session(folder: Path, *flags: str, delay: float = 0.002, test: str = TEST):
    (folder / "test_model.py").write_text(test)
    return run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *flags],
        cwd=folder,
        env=os.environ
        | {"DELAY": str(delay), "COLUMNS": "100"}
        | {"PYTHONPATH": os.pathsep.join([str(HELPERS), os.environ.get("PYTHONPATH", "")])},
    )


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    done = session(folder, "--inferload-json", "base.json")
    assert done.returncode == 0, done.stdout
    assert "test_model.py::test_it" in done.stdout
    return folder / "base.json"


def test_a_baseline_has_the_figures_of_each_test(baseline: Path):
    ((name, result),) = load_suite(baseline).items()
    assert name == "test_model.py::test_it"
    assert result.summary.response_ms.p50.value == 2.0
    assert result.spec.grad_mode == "inference"


def test_a_model_that_became_slower_fails_its_test_and_the_report_says_why(tmp_path, baseline):
    done = session(tmp_path, "--inferload-compare", str(baseline), delay=0.004)
    assert done.returncode == 1
    assert "is worse than its baseline" in done.stdout
    assert "gate p50 +50%: crossed" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_model_that_became_faster_passes(tmp_path, baseline):
    done = session(tmp_path, "--inferload-compare", str(baseline), delay=0.001)
    assert done.returncode == 0, done.stdout
    assert "p50 +50% kept" in done.stdout


def test_gates_of_the_command_line_take_the_place_of_the_default(tmp_path, baseline):
    flags = ("--inferload-compare", str(baseline), "--inferload-gate", "p50 +900%")
    assert session(tmp_path, *flags, delay=0.004).returncode == 0


def test_a_baseline_of_another_machine_judges_nothing_and_says_so(tmp_path, baseline):
    content = json.loads(baseline.read_text())
    for one in content["tests"].values():
        one["environment"]["cpu"] = "another processor"
    (tmp_path / "base.json").write_text(json.dumps(content))
    done = session(tmp_path, "--inferload-compare", "base.json", delay=0.004)
    assert done.returncode == 0
    assert "another machine: not judged" in done.stdout


def test_a_run_that_is_too_short_judges_nothing_and_says_so(tmp_path, baseline):
    test = TEST.replace("duration_s=0.5", "calls=10")
    done = session(tmp_path, "--inferload-compare", str(baseline), delay=0.02, test=test)
    assert done.returncode == 0
    assert "shorter than 0.3 s: not judged" in done.stdout


def test_a_baseline_keeps_the_runs_of_other_tests_and_none_of_a_test_that_failed(tmp_path):
    two = (
        TEST
        + """
def test_other(inferload_bench):
    inferload_bench(Waits().eval(), [torch.zeros(1)], calls=20, **options())
    assert float(os.environ["DELAY"]) < 0.003
"""
    )
    assert session(tmp_path, "--inferload-json", "b.json", test=two).returncode == 0
    before = load_suite(tmp_path / "b.json")
    assert len(before) == 2
    done = session(tmp_path, "--inferload-json", "b.json", "-k", "other", delay=0.004, test=two)
    assert done.returncode == 1
    after = load_suite(tmp_path / "b.json")
    assert {name: one.run_id for name, one in after.items()} == {
        name: one.run_id for name, one in before.items()
    }


def test_a_test_of_the_same_name_elsewhere_is_another_one(tmp_path, baseline):
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "test_model.py").write_text(TEST)
    flags = ("--inferload-compare", str(baseline), "deeper")
    done = session(tmp_path, *flags, delay=0.004)
    assert done.returncode == 0, done.stdout
    assert "deeper/test_model.py::test_it" in done.stdout
    assert f"not in {baseline}" in done.stdout


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--inferload-compare", "no.json"), "no.json cannot be read"),
        (("--inferload-compare", "test_model.py"), "is not JSON"),
        (("--inferload-json", "no/base.json"), "the folder no does not exist"),
        (("--inferload-json", "b.json", "--inferload-gate", "p99 5"), "is not understood"),
    ],
)
def test_wrong_use_is_said_in_a_sentence_before_any_test_runs(tmp_path, flags, said):
    done = session(tmp_path, *flags)
    assert done.returncode == 4
    assert said in done.stderr + done.stdout
    assert "Traceback" not in done.stderr + done.stdout


def test_two_runs_of_one_test_need_names(tmp_path):
    twice = (
        TEST + "    inferload_bench(Waits().eval(), [torch.zeros(1)], calls=10{}, **options())\n"
    )
    done = session(tmp_path, test=twice.format(""))
    assert "give each run of a test a name of its own" in done.stdout
    done = session(tmp_path, "--inferload-json", "b.json", test=twice.format(', name="short"'))
    assert done.returncode == 0
    assert [*load_suite(tmp_path / "b.json")] == [
        "test_model.py::test_it",
        "test_model.py::test_it (short)",
    ]


def test_a_suite_is_no_result_and_a_result_no_suite(tmp_path, baseline):
    with pytest.raises(il.errors.ResultFormatError, match="is a baseline of pytest"):
        il.load_result(baseline)
    (tmp_path / "r.json").write_text('{"format": "inferload run"}')
    with pytest.raises(il.errors.ResultFormatError, match="--inferload-json"):
        load_suite(tmp_path / "r.json")


def test_a_session_without_benchmarks_does_not_import_torch(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "1")  # so it is started and not forked
    check = "import sys\ndef test_it():\n    assert 'torch' not in sys.modules\n"
    done = session(tmp_path, test=check)
    assert done.returncode == 0, done.stdout
    assert "inferload" not in done.stdout
