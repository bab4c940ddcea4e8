"""Inputs as a safetensors file: tensors, and how they lie in arguments. Nothing is pickled.

Tensors stand under numbers. One more, ``inputs``, has the bytes of a JSON list with an object for
each input: ``args`` and ``kwargs``, trees of nodes, and ``items``. A node is ``{"tensor": "7"}``
(with ``"stride"`` where its order in memory is not the usual one), ``{"array": "7"}`` of numpy,
``{"list": [...]}``, ``{"tuple": [...]}``, ``{"dict": {...}}``, or ``{"value": 3}`` of numbers,
texts, booleans and ``None``. ``arrivals_s``, float64, has when each of them came, in seconds since
the first, and the metadata how many calls were ``seen``; files of older versions have neither.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file

from inferload.errors import PlanError
from inferload.files import replacing
from inferload.plan.arrivals.replays import ARRIVALS, CAPTURE_FORMAT, SEEN

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    #: Positional arguments, keyword arguments, and how many samples.
    Arguments = tuple[tuple[Any, ...], dict[str, Any], int]

VERSION = "1"
MOST_ITEMS = 2**31
_TREE = "inputs"


class NotPlainError(TypeError):
    """A value that cannot be written without pickling; its message says which."""


@dataclass(frozen=True, slots=True)
class PackedInput:
    """One input as it is written: its tree as JSON, in which ``tensors`` stand by their number."""

    tree: str
    tensors: tuple[torch.Tensor, ...]


@dataclass(slots=True)
class _Packing:
    tensors: list[torch.Tensor] = field(default_factory=list)
    numbers: dict[int, int] = field(default_factory=dict)
    #: Whatever is numbered, so that no other object gets its identity meanwhile.
    held: list[Any] = field(default_factory=list)

    def number_of(self, value: Any, made: torch.Tensor) -> int:
        self.held.append(value)
        self.numbers[id(value)] = len(self.tensors)
        self.tensors.append(made)
        return self.numbers[id(value)]


def packed(args: tuple[Any, ...], kwargs: dict[str, Any], items: int) -> PackedInput:
    """A copy on the CPU that nobody else writes into; what is given twice is one.

    Tensors that lie densely in memory keep their strides; what is a part of another, or repeats
    itself, is laid out anew. Gradients are not recorded.

    Raises:
        NotPlainError: something in it is neither a tensor nor plain data, or cannot be written.
    """
    packing = _Packing()
    with torch.no_grad():
        tree = {
            "args": _node(tuple(args), packing),
            "kwargs": _node(dict(kwargs), packing),
            "items": items,
        }
    return PackedInput(json.dumps(tree), tuple(packing.tensors))


def _node(value: Any, packing: _Packing) -> dict[str, Any]:
    if isinstance(value, torch.Tensor):
        return _tensor_node(value, packing)
    if type(value) is np.ndarray:
        return _array_node(value, packing)
    if type(value) in {list, tuple}:
        return {type(value).__name__: [_node(one, packing) for one in value]}
    if type(value) is dict:
        for key in value:
            if type(key) is not str:
                raise NotPlainError(f"an input holds a dict with a key of {type(key).__name__}")
        return {"dict": {key: _node(one, packing) for key, one in value.items()}}
    if value is None or type(value) in {bool, int, float, str}:
        return {"value": value}
    raise NotPlainError(f"an input holds a {type(value).__name__}")


def _tensor_node(value: torch.Tensor, packing: _Packing) -> dict[str, Any]:
    if type(value) not in {torch.Tensor, torch.nn.Parameter, torch.nn.Buffer}:
        raise NotPlainError(f"an input holds a {type(value).__name__}")
    if value.layout != torch.strided or value.is_quantized or not _is_writable(value.dtype):
        raise NotPlainError(f"an input holds a tensor of {value.dtype}, {value.layout}")
    number = packing.numbers.get(id(value))
    if number is None:
        copy = value.detach().to("cpu", copy=True)
        copy.data_ptr()  # a tensor of torch.func has none, which is said here
        number = packing.number_of(value, copy)
    node: dict[str, Any] = {"tensor": str(number)}
    copy = packing.tensors[number]
    if not copy.is_contiguous() or copy.stride() != torch.empty(copy.shape, device="meta").stride():
        node["stride"] = list(copy.stride())
    return node


def _array_node(value: np.ndarray[Any, Any], packing: _Packing) -> dict[str, Any]:
    number = packing.numbers.get(id(value))
    if number is None:
        native = value.astype(value.dtype.newbyteorder("="), order="C", copy=True)
        try:
            made = torch.from_numpy(native)
        except TypeError:
            raise NotPlainError(f"an input holds a numpy array of {value.dtype}") from None
        if not _is_writable(made.dtype):
            raise NotPlainError(f"an input holds a numpy array of {value.dtype}")
        number = packing.number_of(value, made)
    return {"array": str(number)}


@cache
def _is_writable(dtype: torch.dtype) -> bool:
    """Whether this safetensors knows a type."""
    try:
        save({"x": torch.empty(0, dtype=dtype)})
    except (KeyError, ValueError, RuntimeError, SafetensorError):
        return False
    return True


def write_inputs(
    path: Path, inputs: Sequence[PackedInput], arrivals_s: Sequence[float], seen: int
) -> None:
    """Write inputs, whole or not at all, with when each came, of so many calls that were seen.

    Raises:
        OSError: the file could not be written.
    """
    tensors: dict[str, torch.Tensor] = {}
    trees = []
    for one in inputs:
        tree = json.loads(one.tree)
        _renumber(tree["args"], len(tensors))
        _renumber(tree["kwargs"], len(tensors))
        trees.append(tree)
        for tensor in one.tensors:
            tensors[str(len(tensors))] = tensor.contiguous()
    text = bytearray(json.dumps(trees).encode())
    tensors[_TREE] = torch.frombuffer(text, dtype=torch.uint8)
    tensors[ARRIVALS] = torch.tensor(
        [one - arrivals_s[0] for one in arrivals_s], dtype=torch.float64
    )
    metadata = {"format": CAPTURE_FORMAT, "version": VERSION, SEEN: str(seen)}
    try:
        with replacing(path) as file:
            save_file(tensors, file, metadata)
    except SafetensorError as error:
        raise OSError(f"{path} could not be written: {error}") from error
    except OSError as error:  # not of the temporary name
        raise type(error)(error.errno, error.strerror, str(path)) from error


def _renumber(node: dict[str, Any], first: int) -> None:
    """Number the tensors of a tree from ``first`` on."""
    for kind in ("tensor", "array"):
        if kind in node:
            node[kind] = str(int(node[kind]) + first)
    for own in (*node.get("list", ()), *node.get("tuple", ()), *node.get("dict", {}).values()):
        _renumber(own, first)


def read_inputs(path: Path) -> list[Arguments]:
    """Read what :func:`write_inputs` wrote.

    Raises:
        PlanError: the file is missing, damaged, or holds something else.
    """
    try:
        with safe_open(path, "pt") as opened:
            metadata = opened.metadata() or {}
            names = list(opened.keys())
            tensors = {name: opened.get_tensor(name) for name in names}
    except FileNotFoundError:
        raise PlanError(f"there is no input file {path}") from None
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise PlanError(f"input file {path} is damaged, or no safetensors ({error})") from error
    if metadata.get("format") != CAPTURE_FORMAT:
        raise PlanError(f"{path} has no captured inputs: inferload.capture writes such files")
    if metadata.get("version") != VERSION:
        raise PlanError(
            f"{path} has version {metadata.get('version')!r}, and this inferload reads {VERSION}"
        )
    reading = _Reading(tensors)
    try:
        trees = json.loads(tensors.pop(_TREE).numpy().tobytes())
        if not isinstance(trees, list):
            raise ValueError("its inputs are no list")  # noqa: TRY004, TRY301
        return [reading.input(one) for one in trees]
    except (
        ArithmeticError, AttributeError, LookupError, RecursionError, RuntimeError, TypeError,
        ValueError,
    ) as error:  # fmt: skip
        raise PlanError(
            f"input file {path} is damaged: its inputs cannot be read ({error})"
        ) from error


class _Reading:
    """Trees back to values; what was given twice is one again."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self._tensors = tensors
        self._made: dict[str, Any] = {}

    def input(self, tree: dict[str, Any]) -> Arguments:
        """One input.

        Raises:
            ValueError: it is none.
        """
        args, kwargs, items = (tree[name] for name in ("args", "kwargs", "items"))
        if set(args) != {"tuple"} or set(kwargs) != {"dict"} or len(tree) != 3:
            raise ValueError("no arguments")
        if type(items) is not int or not 1 <= items <= MOST_ITEMS:
            raise ValueError(f"{items} items")
        return self._value(args), self._value(kwargs), items

    def _value(self, node: dict[str, Any]) -> Any:
        (kind, *rest) = node
        content = node[kind]
        if kind in {"list", "tuple"} and not rest:
            values = [self._value(one) for one in content]
            return values if kind == "list" else tuple(values)
        if kind == "dict" and not rest:
            return {key: self._value(one) for key, one in content.items()}
        if kind == "value" and not rest:
            if content is not None and type(content) not in {bool, int, float, str}:
                raise ValueError(f"a {type(content).__name__} as a value")
            return content
        if kind == "array" and not rest:
            return self._once(f"array {content}", self._tensors[content].numpy)
        if kind == "tensor" and rest in ([], ["stride"]):
            own = self._tensors[content]
            if not rest:
                return own
            stride = node["stride"]
            return self._once(f"{content} {stride}", lambda: _laid(own, stride))
        raise ValueError(f"a node of {', '.join(node)}")

    def _once(self, name: str, make: Any) -> Any:
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]


def _laid(tensor: torch.Tensor, stride: list[int]) -> torch.Tensor:
    """The same values in the order in memory that they had."""
    places = zip(tensor.shape, stride, strict=True)
    if tensor.numel() and 1 + sum((size - 1) * own for size, own in places) != tensor.numel():
        raise ValueError(f"strides {stride} of shape {tuple(tensor.shape)}")
    found = torch.empty_strided(tensor.shape, stride, dtype=tensor.dtype)
    return found.copy_(tensor)
