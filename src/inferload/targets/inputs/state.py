"""What objects keep where no attribute shows it: how far they are read, what they draw next."""

from __future__ import annotations

import inspect
import io
import operator
import sys
import types
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from inferload.targets.inputs.copies import MOST_PARTS, parts_of

if TYPE_CHECKING:
    from collections.abc import Mapping

# Whose classes say the same of two copies. Others may say it in any order, or at any expense.
_TRUSTED = {*sys.stdlib_module_names, "numpy", "torch"}
_SAYING = ("__reduce_ex__", "__reduce__", "__getstate__")
# What is compared otherwise, or would be written out to be looked at.
_OTHERWISE = (
    list, tuple, dict, set, frozenset, deque, type, types.FunctionType, np.ndarray, np.generic,
    torch.Tensor, torch.nn.Module, torch.UntypedStorage, torch.TypedStorage,
)  # fmt: skip
# What is read nowhere, and shared anyway or compared whole.
_WITHOUT = (torch.Tensor, np.ndarray, torch.nn.Module, str, bytes, int, float, complex, type(None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """How far what cannot be copied was read, by the paths to its parts; stands in its place."""

    type_name: str
    positions: Mapping[str, int | str]

    def change(self, path: str, now: Any) -> str | None:
        """What became of it, if anything did."""
        return None if self.positions == _positions(now) else reading(path, now, now)


def marked(given: Any, own: Any) -> Any:
    """Arguments as they are before a call, of which a call gets ``own``.

    Where both are one object, because it cannot be copied, a :class:`Mark` stands for it.
    """
    leaves, structure = pytree.tree_flatten(given)
    marks = {
        place: Mark(type_name=type(leaf).__name__, positions=found)
        for place, (leaf, other) in enumerate(zip(leaves, pytree.tree_leaves(own), strict=False))
        if leaf is other and (found := _positions(leaf))
    }
    if not marks:
        return given
    return pytree.tree_unflatten(
        [marks.get(place, leaf) for place, leaf in enumerate(leaves)], structure
    )


def _positions(value: Any) -> dict[str, int | str]:
    """How far an object and its parts are read, breadth first."""
    found: dict[str, int | str] = {}
    left: list[tuple[str, Any]] = [("", value)]
    seen: set[int] = set()
    for path, one in left:  # it grows meanwhile
        if id(one) in seen or len(left) > MOST_PARTS:
            continue
        seen.add(id(one))
        at = position(one)
        if at is not None:
            found[path] = at
        if not isinstance(one, _WITHOUT):
            left += [(path + name, part) for name, part in parts_of(one).items()]
            left += [(f"{path}<{n}>", part) for n, part in enumerate(hidden_parts(one))]
    return found


def position(value: Any) -> int | str | None:
    """How far a stream or an iterator is read; ``None`` of all else. It never raises."""
    try:
        found: int | str | None = None
        if is_stream(value):
            found = _told(value)
        elif isinstance(value, types.GeneratorType):
            return inspect.getgeneratorstate(value)
        elif isinstance(value, Iterator):
            found = operator.length_hint(value, -1)
            found = None if found < 0 else found
    except Exception:  # noqa: BLE001 - a class of any kind
        return None
    return found if isinstance(found, int) else None


def is_stream(value: Any) -> bool:
    """Whether something is read or written as a file is."""
    return hasattr(value, "tell") and (hasattr(value, "read") or hasattr(value, "write"))


def _told(stream: Any) -> Any:
    try:
        return stream.tell()
    except OSError:  # a text file says nothing while lines are taken from it
        return stream.buffer.tell()


def hidden_parts(value: Any) -> list[Any]:
    """What an object of torch, numpy or Python is made of, as it says itself to be copied.

    It never raises; of what cannot be copied there is nothing.
    """
    if isinstance(value, _OTHERWISE) or not _says(type(value)):
        return []
    try:
        found = value.__reduce_ex__(4)
    except Exception:  # noqa: BLE001 - a file, a lock
        return []
    return list(found[1:3]) if isinstance(found, tuple) else []


def _says(kind: type) -> bool:
    """Whether a class that is trusted says what its objects are made of."""
    for one in kind.__mro__[:-1]:  # but object, which knows attributes and nothing else
        if any(name in one.__dict__ for name in _SAYING):
            return str(one.__module__).partition(".")[0] in _TRUSTED
    return False


def reading(path: str, was: Any, now: Any) -> str:
    """What is said of something that is read."""
    where = f" ({path})" if path else ""
    if not is_stream(now):
        return f"is read{where}: later calls find what is left of it"
    contents = [_content(one) for one in (was, now)]
    if None not in contents and contents[0] != contents[1]:
        return f"is written to{where}"
    return f"is read{where}: later calls that do not rewind it find what is left"


def _content(stream: Any) -> Any:
    if not isinstance(stream, io.BytesIO | io.StringIO) or stream.closed:
        return None
    return stream.getvalue()
