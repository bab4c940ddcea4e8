"""Where compiled things are kept on machines without a home, a name or a right to write."""

from __future__ import annotations

import getpass
import os
import stat
import sys
import tempfile
from pathlib import Path

import pytest

from inferload.callers.native import build as native_build
from inferload.machine import caches
from support.program import run


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An environment that names no folder for caches; the one for temporary files."""
    for name in ("INFERLOAD_CACHE_DIR", "XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_the_folder_that_was_asked_for_is_the_only_one(bare, monkeypatch, tmp_path):
    monkeypatch.setenv("INFERLOAD_CACHE_DIR", str(tmp_path / "own"))
    assert caches.cache_folders() == [tmp_path / "own"]


@pytest.mark.parametrize("home", ["", "/nonexistent", None])
def test_without_a_home_there_is_a_temporary_folder(home, bare, monkeypatch):
    if home is None:
        monkeypatch.setattr(Path, "home", no_home)
    else:
        monkeypatch.setenv("HOME", home)
    assert caches.cache_folders() == [bare / f"inferload-{os.getuid()}"]
    assert native_build.library_path().is_relative_to(bare)


def test_a_home_that_cannot_be_written_to_is_passed_over(bare, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert native_build.library_path().is_relative_to(tmp_path / ".cache")
    monkeypatch.setattr(native_build, "may_write", lambda path: f"{os.sep}.cache" not in str(path))
    assert native_build.library_path().is_relative_to(bare / f"inferload-{os.getuid()}")


def test_what_was_built_is_found_where_nothing_can_be_written_any_more(bare, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    built = native_build.library_path()
    built.parent.mkdir(parents=True)
    built.touch()
    monkeypatch.setattr(native_build, "may_write", lambda path: ".cache" not in str(path))
    assert native_build.library_path() == built


def test_the_temporary_folder_is_this_users_alone(bare):
    folder = caches.temporary_folder()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert caches.temporary_folder() == folder
    folder.chmod(0o777)  # anybody might have put a library there
    other = caches.temporary_folder()
    assert other != folder
    assert stat.S_IMODE(other.stat().st_mode) == 0o700


def test_torch_is_given_a_folder_where_the_system_has_no_name_for_the_user(bare, monkeypatch):
    caches.keep_what_torch_compiles()
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(getpass, "getuser", nobody)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "mine")
    caches.keep_what_torch_compiles()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "mine"
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    caches.keep_what_torch_compiles()
    own = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    assert own == bare / f"inferload-{os.getuid()}" / "torchinductor"
    monkeypatch.setenv("INFERLOAD_CACHE_DIR", "/kept")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    caches.keep_what_torch_compiles()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/kept/torchinductor"


SEALED = """
import os, sys
from pathlib import Path
import inferload as il
from inferload.callers.native.build import library_path
from inferload.machine import caches
from support.program import run
from inferload.targets.as_target import model_from_spec
caches.temporary_folder = lambda: Path("/nowhere")
if os.getuid() == 0:  # whom no folder is closed to
    os.setresuid(65534, 65534, 65534)
print(library_path().name)
try:
    model_from_spec(os.environ["HOME"] + "/.cache/m.py")
except il.PlanError as error:
    print(error)
"""


def test_a_home_that_may_not_be_searched_is_passed_over(tmp_path: Path):
    (tmp_path / "script.py").write_text(SEALED)
    home = tmp_path / "home"
    (home / ".cache").mkdir(parents=True)
    home.chmod(0)
    none = {"XDG_CACHE_HOME": "", "INFERLOAD_CACHE_DIR": ""}
    done = run(
        [sys.executable, str(tmp_path / "script.py")], env=os.environ | none | {"HOME": str(home)}
    )
    home.chmod(0o700)
    assert done.returncode == 0, done.stderr
    library, said = done.stdout.splitlines()
    assert library.endswith(".so")
    assert said == f"the model file {home}/.cache/m.py cannot be read: Permission denied"
