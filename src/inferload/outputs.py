"""Whether two outputs are the same, and how they differ if not."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

if TYPE_CHECKING:
    from collections.abc import Sequence

_PLAIN = (int, float, complex, str, bytes, type(None))


class NotComparableError(Exception):
    """Outputs of which nobody can say whether they are the same."""


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """How two outputs differ: by how much at most, infinite where that is no number."""

    size: float
    how: str


def difference(expected: Sequence[Any], actual: Sequence[Any]) -> Difference | None:
    """The largest difference of leaves that are not close, or ``None`` if all are.

    Tensors and numbers are compared with ``torch.testing``'s tolerances for their dtype, NaN equal
    to NaN.
    """
    if len(expected) != len(actual):
        return Difference(math.inf, "in the number of values")
    found = [_difference(one, other) for one, other in zip(expected, actual, strict=True)]
    return max((one for one in found if one), key=lambda one: one.size, default=None)


def _difference(one: Any, other: Any) -> Difference | None:
    if type(one) is not type(other):
        return Difference(math.inf, f"in type: {type(other).__name__}, not {type(one).__name__}")
    if isinstance(one, Structure | str | bytes):
        what = "structure" if isinstance(one, Structure) else "text"
        return None if one == other else Difference(math.inf, f"in {what}")
    if one is None or _close(one, other):
        return None
    if isinstance(one, torch.Tensor):
        return _tensor_difference(one, other)
    return _by(float(abs(one - other)))


def _tensor_difference(one: torch.Tensor, other: torch.Tensor) -> Difference:
    if one.shape != other.shape:
        return Difference(math.inf, f"in shape: {tuple(other.shape)}, not {tuple(one.shape)}")
    if one.dtype != other.dtype or one.numel() == 0:
        return Difference(math.inf, f"in type: {other.dtype}, not {one.dtype}")
    wide = torch.complex128 if one.is_complex() else torch.float64
    return _by(float((one.to(wide) - other.to(wide)).abs().nan_to_num(nan=math.inf).max()))


def _by(size: float) -> Difference:
    if math.isfinite(size):
        return Difference(size, f"by up to {size:.3g}")
    return Difference(math.inf, "in a NaN or an infinity")


class Structure(str):
    """How the leaves of an output hang together."""

    __slots__ = ()


def leaves(output: Any) -> list[Any]:
    """The leaves of an output: tensors detached and copied, arrays as tensors, fields unfolded.

    The first says how they hang together.
    """
    flat, structure = pytree.tree_flatten(output)
    found: list[Any] = [Structure(structure)]
    for leaf in flat:
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
            raise NotComparableError(
                f"an output could not be copied ({why})"
                if why
                else f"outputs of type {type(leaf).__name__} cannot be compared"
            )
    return found


def _close(one: Any, other: Any) -> bool:
    try:
        torch.testing.assert_close(other, one, equal_nan=True)
    except AssertionError:
        return False
    except Exception as error:
        raise NotComparableError(
            f"torch.testing cannot compare {type(one).__name__} outputs: {type(error).__name__}"
        ) from error
    return True
