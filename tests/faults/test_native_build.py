"""A machine without a compiler, with a broken one, and builds that were killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import inferload as il
from inferload.callers.native import build as native_build
from support import models
from support.gates import until

X = torch.ones(2)


@pytest.fixture
def no_extension(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine on which nothing was compiled yet."""
    monkeypatch.setenv("INFERLOAD_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_without_a_compiler_python_threads_serve_and_the_result_says_so(no_extension, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    model = torch.jit.script(models.NoOp())
    result = il.run(model, [X], calls=20)
    assert result.spec.executor == "threads"
    (warning,) = [one for one in result.warnings if one.code == "native-unavailable"]
    assert "no-such-compiler" in warning.message
    with pytest.raises(il.NativeBuildError, match="no C\\+\\+ compiler"):
        il.run(model, [X], calls=20, executor="native")


def test_a_compiler_that_fails_is_an_error_with_its_words(no_extension, monkeypatch, tmp_path):
    monkeypatch.setattr(native_build, "SOURCE", tmp_path / "broken.cpp")
    native_build.SOURCE.write_text("#error this does not compile\n")
    with pytest.raises(il.NativeBuildError, match="this does not compile"):
        native_build.native_extension()


def test_a_cache_that_cannot_be_written_is_an_error_that_says_what_to_set(monkeypatch):
    monkeypatch.setenv("INFERLOAD_CACHE_DIR", "/proc/nowhere")
    with pytest.raises(il.NativeBuildError, match="INFERLOAD_CACHE_DIR"):
        native_build.native_extension()


def test_a_changed_header_builds_again(no_extension, monkeypatch, tmp_path):
    source, header = tmp_path / "source.cpp", tmp_path / "header.h"
    source.write_text('#include "header.h"\n')
    header.write_text("// one\n")
    monkeypatch.setattr(native_build, "SOURCE", source)
    before = native_build.library_path()
    assert native_build.library_path() == before
    header.write_text("// other\n")
    changed = native_build.library_path()
    assert changed != before
    (tmp_path / "another.h").write_text("// one more\n")
    assert native_build.library_path() not in {before, changed}


def test_every_file_of_the_native_callers_decides_about_a_build():
    folder = native_build.SOURCE.parent
    included = {
        line.split('"')[1]
        for file in folder.glob("*.[hc]*")
        for line in file.read_text(encoding="utf-8").splitlines()
        if line.startswith('#include "')
    }
    assert {"run.h", "claims.h", "watch.h"} <= included
    assert included <= {name for name, _ in native_build._source_texts()}


@pytest.mark.native
def test_what_was_compiled_and_python_have_one_layout(monkeypatch):
    extension = native_build.native_extension()
    assert extension.layout() == native_build.layout()
    columns = {**native_build.COLUMNS, "colour": np.dtype("<i4")}
    monkeypatch.setattr(native_build, "COLUMNS", columns)
    for _ in range(2):  # a second run in the same process is told the same
        with pytest.raises(il.NativeBuildError, match=r"'columns' is .* there and .*'colour'"):
            native_build.native_extension()


@pytest.mark.native
def test_a_column_of_another_width_or_place_is_another_layout(monkeypatch):
    wider = {**native_build.COLUMNS, "caller": np.dtype("<i8")}
    turned = dict(reversed(native_build.COLUMNS.items()))
    for columns in (wider, turned):
        monkeypatch.setattr(native_build, "COLUMNS", columns)
        with pytest.raises(il.NativeBuildError, match="do not fit this inferload: 'columns'"):
            native_build.native_extension()


@pytest.mark.native
def test_callers_that_do_not_fit_are_not_used_and_the_result_says_so(monkeypatch):
    monkeypatch.setattr(native_build, "NO_STAGE", -2)
    result = il.run(torch.jit.script(models.NoOp()), [X], calls=20)
    assert result.spec.executor == "threads"
    (warning,) = [one for one in result.warnings if one.code == "native-unavailable"]
    assert "'no_stage' is -1 there and -2 here" in warning.message


@pytest.mark.slow
@pytest.mark.native
def test_a_killed_build_leaves_nothing_that_a_later_one_waits_for(
    no_extension: Path, tmp_path: Path
):
    small = tmp_path / "small.cpp"
    small.write_text(
        "#include <pybind11/pybind11.h>\n"
        "namespace py = pybind11;\n"
        "PYBIND11_MODULE(inferload_native_callers, m) {\n"
        '  m.attr("built") = true;\n'
        '  m.def("layout", [] { return py::dict(); });\n'
        "}\n"
    )
    script = (
        "from pathlib import Path\n"
        "from inferload.callers.native import build as native_build\n"
        f"native_build.SOURCE = Path({str(small)!r})\n"
        "native_build.layout = dict\n"
        "native_build.native_extension(lambda text: print(text, flush=True))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert "compiling the native callers" in process.stdout.readline()
        until(lambda: [*no_extension.rglob("build-*/*")])  # it is at work
        os.killpg(process.pid, signal.SIGKILL)
    (left,) = [path for path in no_extension.rglob("build-*") if path.is_dir()]
    assert left.exists()
    (left / "lock").touch()  # what torch's own builder would wait for, for ever
    for said in ["compiling the native callers", ""]:
        again = subprocess.run(
            [sys.executable, "-c", script + "print(native_build.native_extension().built)"],
            check=True,
            capture_output=True,
            text=True,
        )
        *announced, built = again.stdout.splitlines()
        assert built == "True"
        assert said in "".join(announced)
        assert bool(announced) == bool(said)
    assert not left.exists()
