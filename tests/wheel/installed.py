"""What is shipped works without the source tree: `make wheel-test` runs this, and `make check`.

The name is none that `pytest` looks for: these are no tests of an editable install.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from importlib.metadata import distribution, version
from pathlib import Path

import pytest
import torch

import inferload as il

ROOT = Path(__file__).parents[2]
HOME = Path(il.__file__).parent
MODEL = """
import torch

def model():
    return torch.nn.Linear(4, 2).eval()

def inputs():
    return [torch.ones(1, 4)]
"""


def ran(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A program that lies beside this Python, in a user's folder."""
    program = Path(sys.prefix) / "bin" / words[0]
    return subprocess.run(
        [program, *words[1:]], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "m.py").write_text(MODEL)
    return tmp_path


def own_files(below: Path) -> set[Path]:
    return {
        one.relative_to(below)
        for one in below.rglob("*")
        if one.is_file() and "__pycache__" not in one.parts
    }


def test_it_is_the_installed_package_that_is_imported(folder: Path):
    assert HOME.is_relative_to(sys.prefix)
    assert not HOME.is_relative_to(ROOT / "src")
    done = ran(folder, "python", "-c", "import inferload; print(inferload.__file__)")
    assert Path(done.stdout.strip()).parent == HOME


def test_the_wheel_has_every_file_of_the_package_sources_and_assets_too():
    source = own_files(ROOT / "src" / "inferload")
    assert {one.suffix for one in source} >= {".py", ".cpp", ".css", ".js", ".typed"}
    assert own_files(HOME) == source
    assert all(
        (HOME / one).read_bytes() == (ROOT / "src" / "inferload" / one).read_bytes()
        for one in source
    )


def test_the_sdist_has_the_tests_and_what_tells_of_the_project():
    (archive,) = (ROOT / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "pyproject.toml"} <= names
    assert {"tests/conftest.py", "tests/wheel/installed.py"} <= names


def test_its_metadata_and_the_package_say_the_same_version():
    own = distribution("inferload")
    assert Path(str(own.locate_file(""))).is_relative_to(sys.prefix)
    assert own.version == version("inferload") == il.__version__


def test_native_callers_are_built_from_what_is_installed():
    scripted = torch.jit.script(torch.nn.Linear(4, 2).eval())
    with torch.no_grad():
        result = il.run(scripted, [torch.ones(1, 4)], executor="native", calls=100)
    assert result.spec.executor == "native"
    assert result.summary.completed_calls == 100


def test_the_command_line_runs_a_model_and_writes_a_page_that_is_whole(folder: Path):
    words = (
        "--form",
        "script",
        "--calls",
        "200",
        "--quiet",
        "--json",
        "r.json",
        "--html",
        "r.html",
    )
    done = ran(folder, "inferload", "run", "m.py", *words)
    assert done.returncode == 0, done.stderr
    assert "native" in done.stdout
    page = (folder / "r.html").read_text()
    assets = [one for one in own_files(HOME) if one.suffix in {".css", ".js"}]
    assert assets
    assert all((HOME / one).read_text().strip() in page for one in assets)
    assert ran(folder, "inferload", "report", "r.json").stdout == done.stdout


def test_callers_in_other_processes_import_the_installed_package(folder: Path):
    words = ("--processes", "2", "--calls", "100", "--quiet", "--json", "r.json")
    done = ran(folder, "inferload", "run", "m.py", *words)
    assert done.returncode == 0, done.stderr
    assert len(il.load_result(folder / "r.json").processes) == 2


def test_pytest_finds_the_plugin(folder: Path):
    (folder / "test_m.py").write_text(
        "import m\n"
        "def test_it(inferload_bench):\n"
        "    result = inferload_bench(m.model(), m.inputs(), calls=50)\n"
        "    assert result.summary.completed_calls == 50\n"
    )
    done = ran(folder, "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_m.py")
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
