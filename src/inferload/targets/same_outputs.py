"""Whether a model still computes the same in another form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from inferload.errors import PlanError
from inferload.inputs import owned, tensors_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferload.inputs import CallInput
    from inferload.targets.base import Target

# Fused and reordered float32 arithmetic differs from eager's by this much; a form that computes
# something else differs by far more.
_RELATIVE, _ABSOLUTE = 1e-2, 1e-3
# Rounding to these happens in other places once operators are fused.
_ROUNDED = 5e-2


def check_same_outputs(
    converted: Target, number: int, eager: Callable[..., Any], one: CallInput, output: object
) -> None:
    """Compare the output of a converted model for an input with that of the eager one.

    Raises:
        PlanError: they differ.
    """
    own = owned(one)
    expected = tensors_of(eager(*own.args, **own.kwargs))
    found = tensors_of(output)
    if len(expected) == len(found) and all(map(_close, expected, found)):
        return
    raise PlanError(
        f"{converted.name} computes something else in the form {converted.form!r}: its outputs "
        f"differ from the eager model's on input {number}, so its speed would mean nothing; choose "
        "another form"
    )


def _close(expected: torch.Tensor, found: torch.Tensor) -> bool:
    rounded = expected.dtype in {torch.bfloat16, torch.float16} or torch.is_autocast_enabled(
        expected.device.type
    )
    tolerance = (_ROUNDED, _ROUNDED) if rounded else (_RELATIVE, _ABSOLUTE)
    return expected.shape == found.shape and torch.allclose(
        _widest(expected), _widest(found), *tolerance, equal_nan=True
    )


def _widest(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)
