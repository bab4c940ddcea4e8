"""A machine without a compiler, with a broken one, and builds that were killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gates import until

import inferload as il
import models
from inferload.executors import native_build

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


@pytest.mark.slow
@pytest.mark.native
def test_a_killed_build_leaves_nothing_that_a_later_one_waits_for(
    no_extension: Path, tmp_path: Path
):
    small = tmp_path / "small.cpp"
    small.write_text(
        "#include <pybind11/pybind11.h>\n"
        'PYBIND11_MODULE(inferload_native_callers, m) { m.attr("built") = true; }\n'
    )
    script = (
        "from pathlib import Path\n"
        "from inferload.executors import native_build\n"
        f"native_build.SOURCE = Path({str(small)!r})\n"
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
