"""Whether a model computes the same under load as it does alone."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from inferload.inputs import owned
from inferload.records import Verification

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.inputs import CallInput
    from inferload.targets.base import Target

_PLAIN = (int, float, complex, str, bytes, type(None))


class _NotComparableError(Exception):
    """Outputs of which nobody can say whether they are the same."""


def reference_outputs(target: Target, inputs: Sequence[CallInput]) -> list[list[Any]] | str:
    """The leaves of the output for each input, computed alone; or why there is nothing to compare.

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
                output = function(*own.args, **own.kwargs)
            except Exception as error:  # noqa: BLE001 - what the run itself does with it is shown
                return f"computed alone it raised {type(error).__name__} on input {number}"
            if target.first_call_ms is None:
                target.first_call_ms = (time.perf_counter() - began) * 1e3
            try:
                found.append(leaves(output))
            except _NotComparableError as error:
                return str(error)
        try:
            if difference(found[0], found[1]) is not None:
                return f"computed twice alone its outputs differ on input {number}"
        except _NotComparableError as error:
            return str(error)
        outputs.append(found[0])
    return outputs


def verified(
    references: list[list[Any]] | str,
    kept: Sequence[Sequence[tuple[int, Any]]],
    *,
    tensors_only: bool,
) -> Verification:
    """Compare the outputs that callers kept with the references.

    ``tensors_only``: native callers of a package return its tensors, and no constants.
    """
    if isinstance(references, str):
        return Verification(compared=0, differing=0, reason=references)
    compared, differing, worst = 0, 0, (-1.0, 0, 0)
    for caller, pairs in enumerate(kept):
        for number, output in pairs:
            expected = references[number]
            try:
                actual = leaves(output)
                if tensors_only:
                    expected, actual = _tensors(expected), _tensors(actual)
                found = difference(expected, actual)
            except _NotComparableError as error:
                return Verification(compared=compared, differing=differing, reason=str(error))
            compared += 1
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
    """The largest absolute difference of leaves that are not close, or ``None`` if they are.

    Tensors and numbers are compared with ``torch.testing``'s tolerances for their dtype, NaN equal
    to NaN. Infinite where number, type, shape or any other value differ.
    """
    if len(expected) != len(actual):
        return float("inf")
    largest = -1.0
    for one, other in zip(expected, actual, strict=True):
        if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
            if not _close(one, other):
                largest = max(largest, _largest_difference(one, other))
        elif type(one) is not type(other):
            largest = float("inf")
        elif isinstance(one, int | float | complex) and not _close(one, other):
            largest = max(largest, abs(one - other))
        elif isinstance(one, str | bytes) and one != other:
            largest = float("inf")
    return largest if largest >= 0 else None


def leaves(output: Any) -> list[Any]:
    """The leaves of an output: tensors detached and copied, arrays as tensors, fields unfolded."""
    found: list[Any] = []
    for leaf in pytree.tree_leaves(output):
        if isinstance(leaf, torch.Tensor):
            found.append(leaf.detach().clone())
        elif isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biufc":
            found.append(torch.from_numpy(leaf.copy()))
        elif isinstance(leaf, np.generic):
            found.append(leaf.item())
        elif isinstance(leaf, _PLAIN):
            found.append(leaf)
        elif dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            for field in dataclasses.fields(leaf):
                found += leaves(getattr(leaf, field.name))
        else:
            why = getattr(leaf, "why", None)
            raise _NotComparableError(
                f"an output could not be copied ({why})"
                if why
                else f"outputs of type {type(leaf).__name__} cannot be compared"
            )
    return found


def _tensors(found: Sequence[Any]) -> list[Any]:
    return [one for one in found if isinstance(one, torch.Tensor)]


def _close(one: Any, other: Any) -> bool:
    try:
        torch.testing.assert_close(other, one, equal_nan=True)
    except AssertionError:
        return False
    except Exception as error:
        raise _NotComparableError(
            f"torch.testing cannot compare {type(one).__name__} outputs: {type(error).__name__}"
        ) from error
    return True


def _largest_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    if one.shape != other.shape or one.dtype != other.dtype or one.numel() == 0:
        return float("inf")
    wide = torch.complex128 if one.is_complex() else torch.float64
    apart = (one.to(wide) - other.to(wide)).abs()
    return float(apart.nan_to_num(nan=float("inf")).max())
