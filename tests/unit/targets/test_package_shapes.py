"""What an AOTInductor package takes, as its own code says it."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
import torch

import inferload as il
from inferload.errors import PlanError
from inferload.targets.inputs.call_input import CallInput
from inferload.targets.kinds.exported import AotiTarget
from inferload.targets.kinds.package_shapes import PackageShapes
from support.models import mlp

WANTED = "RuntimeError: input_handles[1]: {}\n"


def checked(said: str | None, tensor: torch.Tensor) -> list[str | None]:
    """Check two tensors by a package that says so of the second one; what was asked of it."""
    asked: list[str | None] = []

    def package(*tensors: torch.Tensor) -> None:
        asked.append(os.environ.get("AOTI_RUNTIME_CHECK_INPUTS"))
        if said is not None:
            raise RuntimeError(WANTED.format(said))

    shapes = PackageShapes(lambda: package)
    both = {"argument 0": torch.ones(1), "argument 'mask'": tensor}
    for _ in range(2):
        shapes.check(3, CallInput(args=tuple(both.values())), both)
    return asked


@pytest.mark.parametrize(
    ("said", "tensor", "told"),
    [
        ("unmatched dim value at 0, expected: 4, but got: 1", torch.ones(1, 2),
         "the program takes size 4 in dimension 0, this has 1; run"),
        ("dim value is too large at 1, expected to be <= 64, but got: 65", torch.ones(1, 65),
         "the program takes size up to 64 in dimension 1, this has 65"),
        ("dim value is too small at 0, expected it to be >= 8, but got: 1", torch.ones(1, 2),
         "the program takes size 8 or more in dimension 0, this has 1"),
        ("unmatched dtype, expected: 6(at::kFloat), but got: 7", torch.ones(2).double(),
         "the program takes at::kFloat, this is torch.float64"),
        ("unmatched stride value at 0, expected: 3, but got: 1", torch.ones(3, 2).T,
         "the program takes a stride of 3 in dimension 0, this has 1: give it laid out"),
        ("unmatched device type, expected: 1(cuda), but got: 0", torch.ones(2),
         "unmatched device type, expected 1(cuda)"),
    ],
)  # fmt: skip
def test_what_a_package_does_not_take_is_named(said: str, tensor: torch.Tensor, told: str):
    with pytest.raises(PlanError) as caught:
        checked(said, tensor)
    assert f"input 3, argument 'mask': {told}" in str(caught.value)


@pytest.mark.parametrize(
    ("said", "tensor"),
    [
        (None, torch.ones(2, 2)),
        # made for "2 or more", by which it only means that it is not made for 1 alone
        ("dim value is too small at 0, expected it to be >= 2, but got: 1", torch.ones(1, 2)),
        ("unmatched stride value at 0, expected: 2, but got: 1", torch.ones(2, 1).T),
        ("something that is not known yet", torch.ones(2, 2)),
    ],
)
def test_what_it_takes_is_asked_once_for_each_shape(said: str | None, tensor: torch.Tensor):
    before = os.environ.get("AOTI_RUNTIME_CHECK_INPUTS")
    assert checked(said, tensor) == ["1"]
    assert os.environ.get("AOTI_RUNTIME_CHECK_INPUTS") == before


@pytest.fixture
def checking(package: Path) -> Path:
    """A package whose code can check."""
    with zipfile.ZipFile(package) as archive:
        code = [archive.read(name) for name in archive.namelist() if name.endswith(".so")]
    if not any(b"AOTI_RUNTIME_CHECK_INPUTS" in one for one in code):
        pytest.skip("packages that this torch compiles have no checks of their inputs")
    return package


@pytest.mark.native
@pytest.mark.parametrize(
    ("given", "told"),
    [
        (torch.ones(2, 9), "the program takes size 8 in dimension 1, this has 9"),
        (torch.ones(2, 8).double(), "the program takes at::kFloat, this is torch.float64"),
        (torch.ones(8, 2).T, "the program takes a stride of 8 in dimension 0, this has 1"),
    ],
)
def test_a_package_is_not_called_with_what_it_was_not_made_for(given, told, checking, capfd):
    with pytest.raises(PlanError, match="input 1, argument 0: ") as caught:
        il.run(str(checking), [torch.ones(1, 8), given], calls=20)
    assert told in str(caught.value)
    assert "input_handles[" not in capfd.readouterr().err


def test_a_package_that_checks_its_inputs_is_not_the_one_that_is_called(checking: Path, capfd):
    target = AotiTarget(checking)
    target.load(1)
    for number in (1, 2, 3):
        target.bind(number, CallInput(args=(torch.ones(number, 8),)))
    call = target.python_callable()
    with torch.no_grad():
        with pytest.raises(RuntimeError) as caught:  # by torch, in the middle of its work
            call(torch.ones(2, 8).double())
        # where a package checks, it says so in one of both
        assert "input_handles[" not in f"{caught.value}{capfd.readouterr().err}"
        assert torch.allclose(call(torch.ones(2, 8)), mlp()(torch.ones(2, 8)))
