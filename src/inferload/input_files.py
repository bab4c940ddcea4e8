"""Inputs as a safetensors file: tensors, and how they lie in arguments. Nothing is pickled.

The tensors stand under numbers; the metadata has ``inputs``, JSON with a node for every value:
``{"tensor": "7"}`` (with ``"channels_last": true`` where that is its order in memory),
``{"array": "7"}`` of numpy, ``{"list": [...]}``, ``{"tuple": [...]}``,
``{"dict": [[key, node], ...]}`` or ``{"value": 3}`` of numbers, texts, booleans and ``None``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from inferload.errors import PlanError
from inferload.files import replacing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

FORMAT = "inferload inputs"
VERSION = "1"


class NotPlainError(TypeError):
    """A value that cannot be written without pickling; its message says which."""


def copied(value: Any) -> Any:
    """A copy on the CPU that nobody else writes into; tensors that stand twice are one.

    Raises:
        NotPlainError: something in it is neither a tensor nor plain data.
    """
    return _copied(value, {})


def _copied(value: Any, seen: dict[int, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided or value.is_quantized or type(value).__name__ not in {
            "Tensor", "Parameter", "Buffer",
        }:  # fmt: skip
            raise NotPlainError(f"an input holds a {type(value).__name__} of {value.layout}")
        if id(value) not in seen:
            # clone() keeps channels_last, and leaves what is on the CPU to its owner
            with torch.no_grad():
                seen[id(value)] = value.detach().to("cpu", copy=True)
        return seen[id(value)]
    if isinstance(value, np.ndarray):
        return value.copy()
    if type(value) in {list, tuple}:
        return type(value)(_copied(one, seen) for one in value)
    if type(value) is dict and all(isinstance(key, str) for key in value):
        return {key: _copied(one, seen) for key, one in value.items()}
    if value is None or type(value) in {bool, int, float, str}:
        return value
    raise NotPlainError(f"an input holds a {type(value).__name__}")


def write_inputs(
    path: Path, inputs: Sequence[tuple[tuple[Any, ...], Mapping[str, Any], int]]
) -> None:
    """Write positional arguments, keyword arguments and items of each input, whole or not at all.

    Raises:
        NotPlainError: something in them is neither a tensor nor plain data.
        OSError: the file could not be written.
    """
    tensors: dict[str, torch.Tensor] = {}
    names: dict[int, str] = {}
    nodes = [
        {"args": _node(tuple(args), tensors, names), "kwargs": _node(dict(kwargs), tensors, names),
         "items": items}
        for args, kwargs, items in inputs
    ]  # fmt: skip
    metadata = {"format": FORMAT, "version": VERSION, "inputs": json.dumps(nodes)}
    with replacing(path) as file:
        try:
            save_file(tensors, file, metadata)
        except SafetensorError as error:
            raise OSError(None, str(error)) from error


def _node(value: Any, tensors: dict[str, torch.Tensor], names: dict[int, str]) -> dict[str, Any]:
    if isinstance(value, torch.Tensor):
        if id(value) not in names:
            names[id(value)] = str(len(tensors))
            tensors[names[id(value)]] = value.contiguous()
        node: dict[str, Any] = {"tensor": names[id(value)]}
        last = torch.channels_last
        if (
            not value.is_contiguous()
            and value.dim() == 4
            and value.is_contiguous(memory_format=last)
        ):
            node["channels_last"] = True
        return node
    if isinstance(value, np.ndarray):
        name = str(len(tensors))
        try:
            tensors[name] = torch.from_numpy(np.ascontiguousarray(value))
        except TypeError:
            raise NotPlainError(f"an input holds a numpy array of {value.dtype}") from None
        return {"array": name}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_node(one, tensors, names) for one in value]}
    if isinstance(value, dict):
        return {"dict": [[key, _node(one, tensors, names)] for key, one in value.items()]}
    return {"value": value}


def read_inputs(path: Path) -> list[tuple[tuple[Any, ...], dict[str, Any], int]]:
    """Read what :func:`write_inputs` wrote.

    Raises:
        PlanError: the file is missing, damaged, or holds something else.
    """
    try:
        with safe_open(path, "pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no dict
    except FileNotFoundError:
        raise PlanError(f"there is no input file {path}") from None
    except (SafetensorError, OSError) as error:
        raise PlanError(
            f"input file {path} is damaged, or no safetensors file ({error})"
        ) from error
    if metadata.get("format") != FORMAT:
        raise PlanError(f"{path} has no captured inputs: inferload.capture writes such files")
    if metadata.get("version") != VERSION:
        raise PlanError(
            f"{path} has version {metadata.get('version')!r}, and this inferload reads {VERSION}"
        )
    try:
        nodes = json.loads(metadata["inputs"])
        return [
            (tuple(_value(one["args"], tensors)), _value(one["kwargs"], tensors), int(one["items"]))
            for one in nodes
        ]
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise PlanError(f"input file {path} is damaged: its inputs cannot be read") from error


def _value(node: dict[str, Any], tensors: Mapping[str, torch.Tensor]) -> Any:
    ((kind, content), *rest) = node.items()
    if kind == "tensor":
        found = tensors[content]
        # the same values in the order in memory that they had
        return found.contiguous(memory_format=torch.channels_last) if rest else found
    if kind in {"list", "tuple"}:
        values = [_value(one, tensors) for one in content]
        return values if kind == "list" else tuple(values)
    if kind == "dict":
        return {str(key): _value(one, tensors) for key, one in content}
    if kind == "array":
        return tensors[content].numpy()
    if kind != "value":
        raise ValueError(f"a node of kind {kind!r} is unknown")
    return content
