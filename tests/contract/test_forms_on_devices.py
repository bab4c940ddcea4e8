"""Forms that only a device has, refused where there is none, and packages that would crash."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import inferload as il
from inferload.callers.native import build as native_build
from inferload.targets.forms import as_form
from inferload.targets.kinds.python import _compiler_config
from support import models
from support.program import inferload, inferload_here

MODEL = """
import torch
def model(): return torch.nn.Linear(2, 2)
def inputs(): return [torch.zeros(1, 2)]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "m.py").write_text(MODEL)
    return tmp_path


def test_graphs_of_a_model_on_the_cpu_are_refused(folder: Path):
    done = inferload_here("run", "m.py", "--form", "cudagraph", "--calls", "10", cwd=folder)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1] == (
        "error: input 0 (1x2:float32) is on cpu, and CUDA graphs need a model and inputs on a CUDA "
        "device: --device cuda"
    )


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--mode", "max-autotune"), "mode 'max-autotune' is one of torch.compile"),
        (("--form", "compile", "--mode", "fast"), "torch.compile has no mode 'fast': choose "),
    ],
)
def test_a_mode_that_is_none_is_refused(folder: Path, flags: tuple[str, ...], says: str):
    done = inferload_here("run", "m.py", *flags, cwd=folder)
    assert done.returncode == 2
    assert says in done.stderr


@pytest.mark.slow
def test_on_the_cpu_reduce_overhead_replays_no_graphs_and_runs(folder: Path):
    done = inferload(
        "run", "m.py", "--form", "compile", "--mode", "reduce-overhead", "--calls", "40",
        "--callers", "2", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_modes_that_replay_graphs_are_known_by_what_was_compiled(mode: str):
    module = torch.compile(torch.nn.Linear(2, 2), mode=mode)
    function = torch.compile(lambda x: x + 1, mode=mode)
    assert _compiler_config(module)["triton.cudagraphs"]
    assert _compiler_config(function)["triton.cudagraphs"]
    assert not _compiler_config(torch.compile(torch.nn.Linear(2, 2))).get("triton.cudagraphs")
    assert _compiler_config(print) == {}


def test_a_package_that_would_crash_its_loader_is_refused_before_it_is_loaded(
    tmp_path: Path, monkeypatch
):
    path = tmp_path / "m.pt2"
    path.write_bytes(b"")
    monkeypatch.setattr(
        "inferload.targets.kinds.exported.package_trouble", lambda _: "it would crash"
    )
    monkeypatch.setattr("zipfile.ZipFile", lambda *_: pytest.fail("it was opened"))
    from inferload.targets.kinds.exported import AotiTarget

    with pytest.raises(il.PlanError, match="it would crash"):
        il.run(AotiTarget(path), [torch.zeros(1)], calls=1)


def test_a_package_of_another_device_is_not_moved(package: Path):
    with pytest.raises(il.PlanError, match=r"there is no device cuda|was compiled for cpu"):
        il.run(str(package), [torch.zeros(2, 8)], calls=1, device="cuda")


def test_doctor_says_of_a_package_whether_it_can_be_loaded(package: Path, folder: Path):
    done = inferload_here("doctor", str(package), cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "links libstdc++ as torch does" in done.stdout
    assert "torch:" not in done.stdout
    missing = inferload_here("doctor", "no.pt2", cwd=folder)
    assert missing.returncode == 1
    assert "no.pt2: is not there" in missing.stdout
    (folder / "garbage.pt2").write_bytes(b"PK and no more")
    garbage = inferload("doctor", "garbage.pt2", str(package), ".", cwd=folder)
    assert garbage.returncode == 1
    assert "garbage.pt2: cannot be read as a package" in garbage.stdout
    assert ".: is a folder" in garbage.stdout


def test_native_callers_are_not_built_by_a_compiler_that_links_libstdcxx_statically(monkeypatch):
    monkeypatch.setenv("CXX", "g++")
    monkeypatch.setattr(native_build, "OTHER_COMPILERS", ("/usr/bin/g++",))
    own = native_build.compiler()
    monkeypatch.setattr(native_build, "links_statically", lambda compiler: compiler == own)
    if own == "/usr/bin/g++":
        with pytest.raises(il.NativeBuildError, match="links libstdc\\+\\+ statically"):
            native_build._sound_compiler()
    else:
        assert native_build._sound_compiler() == "/usr/bin/g++"
    monkeypatch.setattr(native_build, "links_statically", lambda _: False)
    assert native_build._sound_compiler() == "g++"


def test_an_exported_program_moves_to_the_device_that_is_asked_for():
    target = as_form(models.mlp(), "export", [il.CallInput((torch.zeros(2, 8),))])
    moved = target.on(torch.device("cpu"))
    assert moved.name == target.name
    assert il.run(moved, [torch.zeros(2, 8)], calls=4).summary.completed_calls == 4
