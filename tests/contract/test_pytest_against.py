"""The plugin against another revision of a user's project."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.program import run

# A call takes as long as DELAY_MS says, far longer than anything beside it.
MODEL = """
import time
import torch

DELAY_MS = {delay_ms}

class Ranker(torch.nn.Module):
    def forward(self, x):
        time.sleep(DELAY_MS / 1e3)
        return x
"""
TEST = """
import torch
from ranker import Ranker

def test_it(inferload_bench):
    result = inferload_bench(Ranker().eval(), [torch.zeros(1)], duration_s=0.2)
    assert result.summary.failed_calls == 0
"""
# As projects have it: an option, a fixture, a class, parameters, and warnings that are errors.
CONFTEST = """
import pytest

def pytest_addoption(parser):
    parser.addoption("--size", type=int)

@pytest.fixture
def size(request):
    return request.config.getoption("--size")
"""
OF_A_CLASS = """
import os

import pytest
import torch
from ranker import Ranker

class TestRanker:
    @pytest.mark.parametrize("many", [1, 2])
    def test_it(self, inferload_bench, size, many, tmp_path):
        own = tmp_path / str(os.getpid())
        own.touch()
        inferload_bench(Ranker().eval(), [torch.zeros(size, many)], duration_s=0.2)
        assert own.exists()
"""
BRIEFLY = ("--inferload-time-limit", "5s")


def git(folder: Path, *words: str) -> str:
    own = ("-c", "user.name=one", "-c", "user.email=one@example.org")
    done = subprocess.run(
        ["git", *own, *words], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with a test of a model that takes 2 ms, committed."""
    (tmp_path / "ranker.py").write_text(MODEL.format(delay_ms=2))
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_model.py").write_text(TEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def session(folder: Path, *flags: str):
    return run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", *flags],
        cwd=folder,
        env=os.environ | {"COLUMNS": "100"},
    )


def test_what_became_slower_than_at_a_revision_fails_its_test(project):
    (project / "ranker.py").write_text(MODEL.format(delay_ms=4))
    done = session(project, "--inferload-against", "HEAD", *BRIEFLY)
    assert done.returncode == 1, done.stdout
    assert "tests/test_model.py::test_it is worse than at HEAD (" in done.stdout
    assert "gate p50 +5%: crossed" in done.stdout
    assert "Traceback" not in done.stdout
    assert len(git(project, "worktree", "list").splitlines()) == 1  # it has tidied up


def test_what_became_faster_passes_whatever_its_project_asks_of_pytest(project, monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "1")  # so that it is started and not forked
    (project / "conftest.py").write_text(CONFTEST)
    (project / "tests" / "test_model.py").write_text(OF_A_CLASS)
    with (project / "pytest.ini").open("a") as file:
        file.write("filterwarnings = error\njunit_family = xunit2\n")
    git(project, "add", ".")
    git(project, "commit", "-qm", "a class")
    (project / "ranker.py").write_text(MODEL.format(delay_ms=1))
    done = session(
        project, "--size", "3", "-k", "2", "--junitxml", "j.xml", f"--basetemp={project / 'kept'}",
        "--inferload-against", "HEAD", *BRIEFLY,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    told = " ".join(done.stdout.split())
    assert "tests/test_model.py::TestRanker::test_it[2] against HEAD (" in told
    assert "p50 +5% kept, throughput -5% kept" in told
    assert "passed" in done.stdout
    assert 'tests="1"' in (project / "j.xml").read_text()


def test_a_test_that_the_revision_does_not_have_is_measured_and_the_summary_says_so(project):
    (project / "tests" / "test_model.py").rename(project / "tests" / "test_new.py")
    done = session(project, "--inferload-against", "HEAD", *BRIEFLY)
    assert done.returncode == 0, done.stdout
    told = " ".join(done.stdout.split())
    assert "tests/test_new.py::test_it was not compared" in told
    assert "there is no such test" in told


@pytest.mark.parametrize(
    ("model", "test", "said"),
    [
        (
            MODEL.format(delay_ms=2),
            TEST.replace("    result =", "    raise KeyError('not yet')\n    result ="),
            "the test fails there before it comes to its run: KeyError: 'not yet'",
        ),
        (
            MODEL.format(delay_ms=2),
            TEST.replace("import Ranker", "import Ranked as Ranker"),
            "the test cannot be collected there: ImportError: cannot import name 'Ranked'",
        ),
        (
            MODEL.format(delay_ms=2),
            TEST.replace("(inferload_bench)", "(inferload_bench, other)"),
            "the test fails there before it comes to its run: fixture 'other' not found",
        ),
        (
            MODEL.format(delay_ms=2),
            TEST.replace("    result =", "    import pytest; pytest.skip('no')\n    result ="),
            "the test is skipped there:",
        ),
        (
            MODEL.format(delay_ms=2),
            TEST.replace("duration_s=0.2", "duration_s=0.2, name='old'"),
            "the test makes no such run there",
        ),
        (MODEL.format(delay_ms=-1), TEST, "sleep length must be non-negative"),
    ],
)
def test_what_fails_at_the_revision_is_not_compared_and_the_summary_says_why(
    project, model, test, said
):
    (project / "ranker.py").write_text(model)
    (project / "tests" / "test_model.py").write_text(test)
    git(project, "commit", "-qam", "before")
    (project / "ranker.py").write_text(MODEL.format(delay_ms=2))
    (project / "tests" / "test_model.py").write_text(TEST)
    done = session(project, "--inferload-against", "HEAD", *BRIEFLY)
    assert done.returncode == 0, done.stdout
    assert said in " ".join(done.stdout.split())


def test_where_no_revision_can_be_had_a_saved_run_takes_its_place(project):
    done = session(project, "--inferload-json", "base.json")
    assert done.returncode == 0, done.stdout
    flags = ("--inferload-against", "v9", "--inferload-compare", "base.json")
    done = session(project, *flags)
    assert done.returncode == 0, done.stdout
    told = " ".join(done.stdout.split())
    assert "there is no revision 'v9': saved runs are compared with instead" in told
    assert "tests/test_model.py::test_it against its baseline" in told
    assert "they show what became far slower, and nothing finer" in told


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--inferload-against", "v9"), "there is no revision 'v9'; a saved run can take its"),
        (("--inferload-against", ""), "there is no revision ''"),
        (("--inferload-against", "."), "the working tree is what is compared"),
        (("--inferload-against", "HEAD", "--inferload-time-limit", "soon"), "'soon'"),
        (("--inferload-time-limit", "5s"), "name it by --inferload-against REV"),
    ],
)
def test_wrong_use_is_said_before_any_test_runs(project, flags, said):
    done = session(project, *flags)
    assert done.returncode == 4
    assert said in done.stderr + done.stdout
    assert "Traceback" not in done.stderr + done.stdout
