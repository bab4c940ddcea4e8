"""Whether a model computes the same under load as it does alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from inferload.inputs import owned
from inferload.records import Verification

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.inputs import CallInput
    from inferload.targets.base import Target


def reference_outputs(target: Target, inputs: Sequence[CallInput]) -> list[Any] | str:
    """The output for each input, computed alone; or why there is nothing to compare with.

    Every input is called twice: a model that gives two answers when it is alone (dropout, sampling,
    state that calls change) cannot be verified under load.
    """
    function = target.python_callable()
    outputs = []
    for number, one in enumerate(inputs):
        found = []
        for _ in range(2):
            own, began = owned(one), time.perf_counter()
            try:
                found.append(_leaves(function(*own.args, **own.kwargs)))
            except Exception as error:  # noqa: BLE001 - what the run itself does with it is shown
                return f"computed alone it raised {type(error).__name__} on input {number}"
            if target.first_call_ms is None:
                target.first_call_ms = (time.perf_counter() - began) * 1e3
        if difference(found[0], found[1]) is not None:
            return f"computed twice alone its outputs differ on input {number}"
        outputs.append(found[0])
    return outputs


def verified(
    references: list[Any] | str, kept: Sequence[Sequence[tuple[int, Any]]]
) -> Verification:
    """Compare the outputs that callers kept with the references."""
    if isinstance(references, str):
        return Verification(compared=0, differing=0, reason=references)
    compared, differing, worst = 0, 0, (-1.0, 0, 0)
    for caller, pairs in enumerate(kept):
        for number, output in pairs:
            compared += 1
            found = difference(references[number], _leaves(output))
            if found is not None:
                differing += 1
                worst = max(worst, (found, caller, number))
    if not differing:
        return Verification(compared=compared, differing=0)
    return Verification(
        compared=compared,
        differing=differing,
        caller=worst[1],
        input=worst[2],
        difference=worst[0] if worst[0] != float("inf") else None,
    )


def difference(expected: Sequence[Any], actual: Sequence[Any]) -> float | None:
    """The largest absolute difference of outputs that are not close, or ``None`` if they are.

    Tensors are compared with ``torch.testing``'s tolerances for their dtype, NaN equal to NaN.
    Infinite where number, type, shape or any other value differ.
    """
    if len(expected) != len(actual):  # native callers of a package return its tensors alone
        expected = [one for one in expected if isinstance(one, torch.Tensor)]
        actual = [one for one in actual if isinstance(one, torch.Tensor)]
        if len(expected) != len(actual):
            return float("inf")
    largest = -1.0
    for one, other in zip(expected, actual, strict=True):
        if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
            try:
                torch.testing.assert_close(other, one, equal_nan=True)
            except AssertionError:
                largest = max(largest, _largest_difference(one, other))
        elif type(one) is not type(other) or not _equal(one, other):
            largest = float("inf")
    return largest if largest >= 0 else None


def _largest_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    if one.shape != other.shape or one.dtype != other.dtype or one.numel() == 0:
        return float("inf")
    wide = torch.complex128 if one.is_complex() else torch.float64
    apart = (one.to(wide) - other.to(wide)).abs()
    return float(apart.nan_to_num(nan=float("inf")).max())


def _equal(one: Any, other: Any) -> bool:
    plain = isinstance(one, int | float | complex | str | bytes)
    return not plain or bool(one == other)  # of objects of the model's own there is no telling


def _leaves(output: Any) -> list[Any]:
    """The leaves of an output, tensors detached and copied."""
    return [
        leaf.detach().clone() if isinstance(leaf, torch.Tensor) else leaf
        for leaf in pytree.tree_leaves(output)
    ]
