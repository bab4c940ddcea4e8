"""Inputs of the Open Inference Protocol v2: tensors by the names and types that a server tells."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from inferload.errors import PlanError
from inferload.records.server import ServerModel
from inferload.targets.inputs.call_input import described
from inferload.targets.remote.failures import NoAnswer
from inferload.units import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.targets.inputs.call_input import CallInput

# https://github.com/kserve/open-inference-protocol, "Tensor Data Types"
_TYPES: dict[torch.dtype, str] = {
    torch.bool: "BOOL",
    torch.uint8: "UINT8",
    torch.int8: "INT8",
    torch.int16: "INT16",
    torch.int32: "INT32",
    torch.int64: "INT64",
    torch.float16: "FP16",
    torch.bfloat16: "BF16",
    torch.float32: "FP32",
    torch.float64: "FP64",
}
_SIZES = {kind: dtype.itemsize for dtype, kind in _TYPES.items()}
WORDS = "Open Inference Protocol v2"


def model_of(found: Any, name: str) -> ServerModel:
    """What the metadata of a model says, as JSON has it."""
    return ServerModel(
        name=str(found.get("name", name)),
        versions=tuple(map(str, found.get("versions") or ())),
        platform=str(found["platform"]) if found.get("platform") else None,
        inputs=tuple(map(_told, found.get("inputs") or ())),
        outputs=tuple(map(_told, found.get("outputs") or ())),
    )


def _told(tensor: Any) -> str:
    shape = [int(size) for size in tensor.get("shape") or ()]
    return f"{tensor.get('name')}: {tensor.get('datatype')} {shape}"


def arrays_of(
    number: int, one: CallInput, inputs: Sequence[dict[str, Any]]
) -> list[tuple[str, str, np.ndarray[Any, Any]]]:
    """Name, type and values of each tensor of an input.

    ``inputs``: what the server says that the model takes; nothing where it does not say.

    Raises:
        PlanError: an argument has no name, or is of another type than the server takes.
    """
    types = {str(known["name"]): str(known.get("datatype")) for known in inputs}
    if one.args and len(one.args) > len(types):
        what = f"the server takes {', '.join(types)}" if types else "the server names no inputs"
        raise PlanError(
            f"input {number} ({described(one)}) has {len(one.args)} arguments without a name, and "
            f"{what}: name each, as --inputs input_ids=1x16:int64"
        )
    named = dict(zip(types, one.args, strict=False)) | dict(one.kwargs)
    unknown = [name for name in named if types and name not in types]
    if unknown:
        raise PlanError(
            f"input {number} has {unknown[0]!r}, and the model takes {', '.join(types)}"
        )
    missing = [name for name in types if name not in named]
    if missing:
        raise PlanError(
            f"input {number} ({described(one)}) lacks {', '.join(missing)}: the model takes "
            f"{', '.join(f'{name} ({kind})' for name, kind in types.items())}"
        )
    found = []
    for name, value in named.items():
        kind, array = _array_of(number, name, value)
        wanted = types.get(name, kind)
        if kind != wanted:
            raise PlanError(
                f"input {number}: {name} is {kind}, and the server takes {wanted}: give it as "
                f"{_dtype_of(wanted)}"
            )
        found.append((name, kind, array))
    return found


def _dtype_of(kind: str) -> str:
    names = {known: str(dtype).removeprefix("torch.") for dtype, known in _TYPES.items()}
    return names.get(kind, "a text, or a list of texts" if kind == "BYTES" else kind)


def _array_of(number: int, name: str, value: Any) -> tuple[str, np.ndarray[Any, Any]]:
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        value = torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, torch.Tensor) and value.dtype in _TYPES:
        own = value.detach().cpu().contiguous()
        if own.dtype == torch.bfloat16:
            import ml_dtypes

            return "BF16", own.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return _TYPES[own.dtype], own.numpy()
    texts = [value] if isinstance(value, str | bytes) else value
    listed = [*texts] if isinstance(texts, list | tuple) else []
    if listed and all(isinstance(part, str | bytes) for part in listed):
        raw = [part.encode() if isinstance(part, str) else part for part in listed]
        return "BYTES", np.array(raw, dtype=np.object_)
    raise PlanError(
        f"input {number}: {name} is a {type(value).__name__}, and tensors, arrays and texts can be "
        "sent"
    )


def check_whole(answer: Any) -> None:
    """Whether a message has outputs, and the binary data of each of them is all there.

    Raises:
        NoAnswer: it has not.
    """
    if not answer.outputs:
        raise NoAnswer("the answer has no outputs")
    for one, raw in zip(answer.outputs, answer.raw_output_contents, strict=False):
        size = _SIZES.get(one.datatype)
        if size is not None and len(raw) != size * math.prod(one.shape):
            raise NoAnswer(
                f"{printable(one.name)} is told as {one.datatype} {list(one.shape)}, and has "
                f"{len(raw):,} bytes"
            )


def tensor_of(array: np.ndarray[Any, Any]) -> Any:
    """A tensor of torch, where it has the type; texts stay an array."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy()) if array.dtype.kind in "biuf" else array


def items_in(arrays: Sequence[tuple[str, str, np.ndarray[Any, Any]]], one: CallInput) -> int | None:
    """The samples of an input: as it says, else of its first tensor of two dimensions or more."""
    if one.items is not None:
        return one.items
    return next((len(array) for _, _, array in arrays if array.ndim > 1), None)
