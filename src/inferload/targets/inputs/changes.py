"""Whether calls changed what they were given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from inferload.targets.inputs.copies import MOST_PARTS, parts_of
from inferload.targets.inputs.state import Mark, hidden_parts, position, reading

if TYPE_CHECKING:
    from collections.abc import Mapping

# Tensors are compared whole until so many bytes have been, and from then on, or if one alone has
# more than the second number, by elements at even distances: 0.1 s, whatever the inputs.
MOST_BYTES = 2**28
WHOLE_BYTES = 2**24
SAMPLED = 2**16
_CONSTANTS = (str, bytes, bool, int, float, complex, type(None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What calls did to an argument; ``how`` follows its name.

    ``shared``: it cannot be copied, and all calls have the same.
    """

    argument: int | str
    type_name: str
    how: str
    shared: bool = False


class _Pair(NamedTuple):
    """A part of an argument as it was and as it is; ``word``: what is said if they differ."""

    path: str
    was: Any
    now: Any
    word: str = ""


class Comparing:
    """Compares arguments with what they were; the effort is bounded over all comparisons."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.left_bytes = most_bytes
        self._is_mark = False

    def change(
        self,
        before: tuple[tuple[Any, ...], Mapping[str, Any]],
        after: tuple[tuple[Any, ...], Mapping[str, Any]],
        *,
        but_tensors: bool = False,
    ) -> Change | None:
        """The first change of an argument, if there is any.

        ``but_tensors``: not of arguments that are tensors, which something else writes to.
        """
        pairs: list[tuple[int | str, tuple[Any, Any]]] = [
            *enumerate(zip(before[0], after[0], strict=True)),
            *((name, (value, after[1][name])) for name, value in before[1].items()),
        ]
        for name, (one, other) in pairs:
            if but_tensors and isinstance(one, torch.Tensor):
                continue
            how = self._how(one, other)
            if how is not None:
                return Change(
                    argument=name,
                    type_name=type(other).__name__,
                    how=how,
                    shared=self._is_mark,
                )
        return None

    def _how(self, one: object, other: object) -> str | None:
        """What became of an object, by its parts, breadth first."""
        self._is_mark = False
        left: list[_Pair] = [_Pair("", one, other)]
        seen: set[int] = set()
        for pair in left:  # it grows meanwhile
            path, was, now, word = pair
            if was is now or id(was) in seen:
                continue
            seen.add(id(was))
            if isinstance(was, Mark):
                how = was.change(path, now)
                self._is_mark = how is not None
            elif position(was) != position(now):
                how = reading(path, was, now)
            else:
                how = self._own_change(path, was, now)
            if how is not None:
                return word or how
            if isinstance(was, (torch.Tensor, np.ndarray, Mark, set, frozenset, *_CONSTANTS)):
                continue
            left += _parts(pair)
            if len(left) > MOST_PARTS:
                return None
        return None

    def _own_change(self, path: str, was: Any, now: Any) -> str | None:
        if type(was) is not type(now):
            if isinstance(was, Iterator) and isinstance(now, Iterator):
                return None  # a copy of an iterator over a set is one over a list
            return f"changed: {_at(path)}was a {type(was).__name__} and is a {type(now).__name__}"
        if isinstance(was, torch.Tensor | np.ndarray):
            return self._tensor_change(path, was, now)
        if isinstance(was, _CONSTANTS):
            same = was == now or was != was  # noqa: PLR0124 - NaN
            return None if same else f"changed: {_at(path)}was {_short(was)} and is {_short(now)}"
        if hasattr(was, "__len__") and hasattr(was, "__iter__"):
            return _container_change(path, was, now)
        return None

    def _tensor_change(self, path: str, was: Any, now: Any) -> str | None:
        if isinstance(was, np.ndarray):
            if was.dtype.kind not in "biufc":
                return None
            try:  # of any strides and byte order
                was, now = (
                    torch.from_numpy(np.array(one, one.dtype.newbyteorder("="), order="C"))
                    for one in (was, now)
                )
            except TypeError:  # such as float128
                return None
        try:
            with torch.no_grad():
                pairs = list(zip(_dense(was), _dense(now), strict=True))
                return next(filter(None, (self._dense_change(path, *pair) for pair in pairs)), None)
        except Exception:  # noqa: BLE001 - a class or layout of tensors that does not tell its values
            return None

    def _dense_change(self, path: str, was: torch.Tensor, now: torch.Tensor) -> str | None:
        if was.shape != now.shape:
            word = "grew" if now.numel() > was.numel() else "changed"
            word = "shrank" if now.numel() < was.numel() else word
            shapes = ["x".join(map(str, one.shape)) or "scalar" for one in (was, now)]
            return f"{word}: {_at(path)}was {shapes[0]} and is {shapes[1]}"
        if was.dtype != now.dtype:
            return f"changed: {_at(path)}was {was.dtype} and is {now.dtype}"
        size, step = was.numel() * was.element_size(), 1
        if size > WHOLE_BYTES or size > self.left_bytes:
            step = max(was.numel() // SAMPLED, 1)
        self.left_bytes -= size // step
        same = torch.equal(_bits(was, step), _bits(now, step))
        return None if same else f"is written to{path and f' ({path})'}"


def _parts(pair: _Pair) -> list[_Pair]:
    """What two objects consist of, in pairs, and last what no attribute shows."""
    path, was, now, word = pair
    mine, its = parts_of(was), parts_of(now)
    found = [_Pair(path + name, mine[name], its[name], word) for name in mine if name in its]
    if type(was) is not type(now):
        return found
    hidden = list(zip(hidden_parts(was), hidden_parts(now), strict=False))
    if hidden and not word:
        word = f"has a state that calls change{path and f' ({path})'}"
        if isinstance(was, Iterator):
            word = reading(path, was, now)
    return [*found, *(_Pair(path, one, other, word) for one, other in hidden)]


def _bits(tensor: torch.Tensor, step: int) -> torch.Tensor:
    """The bytes of every so manieth element: NaN is the same as NaN."""
    flat = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return flat[::step].contiguous().view(torch.uint8)


def _container_change(path: str, was: Any, now: Any) -> str | None:
    try:
        sizes = [len(was), len(now)]
        if sizes[0] != sizes[1]:
            word = "grew" if sizes[1] > sizes[0] else "shrank"
            return f"{word}: {_at(path)}had {sizes[0]:,} entries and has {sizes[1]:,}"
        if isinstance(was, set | frozenset):
            return None if was == now else f"changed: {_at(path)}has other entries"
        if isinstance(was, dict) and was.keys() != now.keys():
            return f"changed: {_at(path)}has other keys"
    except Exception:  # noqa: BLE001 - whatever its class makes of this
        return None
    return None


def _dense(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The dense tensors that one of any layout consists of."""
    if tensor.is_nested:
        return list(tensor.unbind())
    if tensor.is_quantized:
        return [tensor.int_repr()]
    if tensor.layout == torch.sparse_coo:
        whole = tensor.coalesce()
        return [whole.indices(), whole.values()]
    if tensor.layout == torch.sparse_csr:
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    return [tensor]


def _at(path: str) -> str:
    return f"{path} " if path else "it "


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 20 else type(value).__name__
