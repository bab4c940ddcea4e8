"""What an output consists of, whether two of them are the same, and how they differ if not."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

if TYPE_CHECKING:
    from collections.abc import Sequence

_PLAIN = (int, float, complex, str, bytes, type(None))
# What holds no output, but may hold a whole model.
_CODE = (
    type,
    functools.partial,
    torch.nn.Module,
    types.BuiltinFunctionType,
    types.FunctionType,
    types.MethodType,
    types.ModuleType,
)
_COMPRESSED = {
    torch.sparse_csr: (torch.Tensor.crow_indices, torch.Tensor.col_indices),
    torch.sparse_bsr: (torch.Tensor.crow_indices, torch.Tensor.col_indices),
    torch.sparse_csc: (torch.Tensor.ccol_indices, torch.Tensor.row_indices),
    torch.sparse_bsc: (torch.Tensor.ccol_indices, torch.Tensor.row_indices),
}


class Structure(str):
    """How the leaves of an output hang together."""

    __slots__ = ()


class Opaque(str):
    """A part of an output that cannot be compared, by the name of its type or with the reason."""

    __slots__ = ()


class Leaves(list[Any]):
    """The leaves of an output, taken apart already."""

    __slots__ = ()


def leaves(output: Any) -> list[Any]:
    """The leaves of an output: copies of its tensors, and plain values; first its structure.

    Containers that ``torch.utils._pytree`` knows, dataclasses and mappings are unfolded; arrays
    become tensors; nested, sparse and quantised tensors become the strided ones that they consist
    of. Of an object of any other class the tensors within count, such as those of a cache. What is
    left is :class:`Opaque`.
    """
    if isinstance(output, Leaves):
        return output
    flat, structure = pytree.tree_flatten(output)
    found: list[Any] = [Structure(structure)]
    for leaf in flat:
        found += _parts(leaf)
    return found


def not_compared(found: Sequence[Any]) -> list[str]:
    """What of these leaves cannot be compared, each once."""
    return list(dict.fromkeys(str(one) for one in found if isinstance(one, Opaque)))


def tensors_among(found: Sequence[Any]) -> list[torch.Tensor]:
    """The tensors among leaves."""
    return [one for one in found if isinstance(one, torch.Tensor)]


def tensors_in(output: Any) -> list[torch.Tensor]:
    """The tensors of an output as they are, also within objects of classes that nobody knows."""
    return [
        tensor
        for leaf in pytree.tree_leaves(output)
        for tensor in ([leaf] if isinstance(leaf, torch.Tensor) else _within(leaf, set()))
    ]


def _parts(leaf: Any) -> list[Any]:  # noqa: PLR0911 - one a kind
    if isinstance(leaf, torch.Tensor):
        return _strided(leaf)
    if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biufc":
        return [_tensor_of(leaf)]
    if isinstance(leaf, np.generic):
        return [leaf.item()]
    if isinstance(leaf, _PLAIN):
        return [leaf]
    if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
        values = [getattr(leaf, one.name, None) for one in dataclasses.fields(leaf)]
        return [part for value in values for part in leaves(value)]
    if isinstance(leaf, Mapping):
        return [part for pair in leaf.items() for value in pair for part in leaves(value)]
    inner = [part for tensor in _within(leaf, set()) for part in _strided(tensor)]
    return inner or [Opaque(f"outputs of type {type(leaf).__name__}")]


def _tensor_of(array: np.ndarray[Any, Any]) -> torch.Tensor | Opaque:
    try:
        return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("=")))
    except TypeError:  # such as float128
        return Opaque(f"numpy arrays of {array.dtype}")


def _strided(tensor: torch.Tensor) -> list[Any]:  # noqa: PLR0911 - one a layout
    """Copies of the strided tensors that a tensor consists of."""
    one = tensor.detach()
    try:
        if one.is_nested:
            return [part.clone() for part in one.unbind()]
        if one.layout == torch.sparse_coo:
            one = one.coalesce()
            return [one.indices().clone(), one.values().clone()]
        if one.layout in _COMPRESSED:
            return [*(part(one).clone() for part in _COMPRESSED[one.layout]), one.values().clone()]
        if one.layout != torch.strided:
            return [one.to_dense()]
        if one.is_quantized:
            return [one.dequantize()]
        return [one.clone()]
    except (RuntimeError, NotImplementedError) as error:
        return [Opaque(f"tensors of {tensor.dtype}, {tensor.layout} ({_short(error)})")]


def _short(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:100]


def _within(value: Any, seen: set[int]) -> Iterator[torch.Tensor]:
    """The tensors in an object's attributes, and in what these hold, in their order."""
    if isinstance(value, torch.Tensor):
        yield value
        return
    if isinstance(value, (*_PLAIN, *_CODE, np.generic)) or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        return
    inner: list[Any] = []
    if isinstance(value, Mapping):
        inner += value.values()
    elif isinstance(value, list | tuple | AbstractSet):
        inner += value
    inner += getattr(value, "__dict__", {}).values()
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        names = [slots] if isinstance(slots, str) else slots
        inner += [getattr(value, one, None) for one in names if not one.startswith("__")]
    for one in inner:
        yield from _within(one, seen)


@dataclasses.dataclass(frozen=True, slots=True)
class OutputDifference:
    """How two outputs differ: by how much at most, infinite where that is no number."""

    size: float
    how: str


def difference(expected: Sequence[Any], actual: Sequence[Any]) -> OutputDifference | None:
    """The largest difference of leaves that are not close, or ``None`` if all are.

    Tensors and numbers are compared with ``torch.testing``'s tolerances for their dtype, NaN equal
    to NaN. Parts that cannot be compared are the same if their types are.
    """
    if len(expected) != len(actual):
        return OutputDifference(math.inf, "in the number of values")
    found = [_difference(one, other) for one, other in zip(expected, actual, strict=True)]
    return max((one for one in found if one), key=lambda one: one.size, default=None)


def _difference(one: Any, other: Any) -> OutputDifference | None:
    if type(one) is not type(other):
        return OutputDifference(
            math.inf, f"in type: {type(other).__name__}, not {type(one).__name__}"
        )
    if isinstance(one, Opaque):
        return None
    if isinstance(one, Structure | str | bytes):
        what = "structure" if isinstance(one, Structure) else "text"
        return None if one == other else OutputDifference(math.inf, f"in {what}")
    if one is None or _close(one, other):
        return None
    if isinstance(one, torch.Tensor):
        return _tensor_difference(one, other)
    return _by(float(abs(one - other)))


def _tensor_difference(one: torch.Tensor, other: torch.Tensor) -> OutputDifference:
    if one.shape != other.shape:
        return OutputDifference(math.inf, f"in shape: {tuple(other.shape)}, not {tuple(one.shape)}")
    if one.dtype != other.dtype or one.numel() == 0:
        return OutputDifference(math.inf, f"in type: {other.dtype}, not {one.dtype}")
    gap = (widest(one) - widest(other)).abs()
    return _by(float(gap.nan_to_num(nan=math.inf).max()))


def widest(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor in the widest floating type of its kind."""
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)


def _by(size: float) -> OutputDifference:
    if math.isfinite(size):
        return OutputDifference(size, f"by up to {size:.3g}")
    return OutputDifference(math.inf, "in a NaN or an infinity")


def _close(one: Any, other: Any) -> bool:
    try:
        torch.testing.assert_close(other, one, equal_nan=True)
    except AssertionError:
        return False
    except (RuntimeError, NotImplementedError, TypeError):
        # of some types, such as float8, torch knows no differences
        return bool(torch.equal(widest(one).nan_to_num(), widest(other).nan_to_num()))
    return True
