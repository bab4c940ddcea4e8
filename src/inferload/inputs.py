"""What callers pass to the target: inputs, their seeded order, spec strings and files."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from inferload.errors import PlanError
from inferload.input_files import read_inputs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from inferload.call_log import Int32s

# The order of inputs repeats after about so many calls: 256 KiB, whatever the length of the run.
ORDER_LENGTH = 65_536


@dataclass(frozen=True, slots=True)
class CallInput:
    """The arguments of one call; ``items`` is the number of samples in its batch."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    items: int = 1


def as_call_inputs(inputs: object, seed: int = 0) -> tuple[CallInput, ...]:
    """Read a sequence of ``CallInput``, tensor (one positional), tuple (args) or dict (kwargs).

    Of strings it is what ``--inputs`` of the command line makes of them, drawn with ``seed``.

    Raises:
        PlanError: there are none, or one is none of these.
    """
    if isinstance(inputs, torch.Tensor | CallInput | dict | str | bytes):
        raise PlanError(
            f"inputs must be a sequence of inputs, not one {type(inputs).__name__}: "
            "put it in a list, [x]"
        )
    try:
        listed = list(inputs)  # type: ignore[call-overload]
    except TypeError:
        raise PlanError(
            f"inputs must be a sequence of inputs, not {type(inputs).__name__}"
        ) from None
    if listed and all(isinstance(one, str) for one in listed):
        return inputs_from_text(listed, seed)
    if not listed:
        raise PlanError("there are no inputs: give at least one, for example [torch.zeros(1, 8)]")
    return tuple(_as_call_input(number, one) for number, one in enumerate(listed))


def _as_call_input(number: int, value: object) -> CallInput:
    if isinstance(value, torch.Tensor):
        value = CallInput((value,))
    elif isinstance(value, tuple):
        value = CallInput(value)
    elif isinstance(value, dict):
        value = CallInput((), value)
    if not isinstance(value, CallInput):
        raise PlanError(
            f"input {number} is a {type(value).__name__}: an input is a tensor (one positional "
            "argument), a tuple (args), a dict (kwargs) or a CallInput"
        )
    names = [name for name in value.kwargs if not isinstance(name, str)]
    if names:
        raise PlanError(f"input {number} has a keyword that is no string: {names[0]!r}")
    if isinstance(value.items, bool) or not isinstance(value.items, int) or value.items < 1:
        raise PlanError(f"input {number} has items={value.items!r}: it must be 1 or more")
    return value


def input_order(inputs: int, calls: int | None, seed: int | Sequence[int]) -> Int32s:
    """Which input each call takes; repeated when it has come to its end.

    One shuffled deck of all inputs after another, so that runs of different lengths meet the same
    mix: with independent draws, 100 calls over inputs of different sizes differ by several per
    cent in the work they ask for.
    """
    wanted = ORDER_LENGTH if calls is None else min(calls, ORDER_LENGTH)
    decks = np.tile(np.arange(inputs, dtype=np.int32), (-(-wanted // inputs), 1))
    order: Int32s = np.random.default_rng(seed).permuted(decks, axis=1).ravel()
    return order


def owned(call_input: CallInput) -> CallInput:
    """A copy whose tensors have storage of their own.

    Containers are rebuilt; a tensor that stands in two places is copied once, as it was.
    """
    copies: dict[int, torch.Tensor] = {}

    def copy(leaf: object) -> object:
        if not isinstance(leaf, torch.Tensor):
            return leaf.copy() if isinstance(leaf, np.ndarray) else leaf
        if id(leaf) not in copies:
            # a copy made within inference_mode would be an inference tensor where this is none
            with torch.inference_mode(mode=leaf.is_inference()):
                clone = leaf.detach().clone()
            copies[id(leaf)] = clone.requires_grad_(True) if leaf.requires_grad else clone
        return copies[id(leaf)]

    args, kwargs = pytree.tree_map(copy, (tuple(call_input.args), dict(call_input.kwargs)))
    return CallInput(args, kwargs, call_input.items)


def tensors_of(tree: object) -> list[torch.Tensor]:
    """The tensors in a nested container."""
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def described(call_input: CallInput) -> str:
    """One line such as ``1x3x224x224:float32, mask=1x12:int64``."""
    parts = [_described(value) for value in call_input.args]
    parts += [f"{name}={_described(value)}" for name, value in call_input.kwargs.items()]
    return ", ".join(parts) or "no arguments"


def _described(value: object) -> str:
    if isinstance(value, torch.Tensor):
        shape = "x".join(map(str, value.shape)) or "scalar"
        return f"{shape}:{str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_described, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={_described(one)}" for key, one in value.items()) + "}"
    text = repr(value)
    return text if len(text) <= 20 else type(value).__name__


def inputs_from_text(texts: Sequence[str], seed: int) -> tuple[CallInput, ...]:
    """Read ``--inputs``: each text is a file, or a spec of one input.

    A ``.pt`` file is what ``torch.save`` wrote, a ``.safetensors`` what ``inferload.capture`` did.

    A spec names each argument's shape and dtype, commas between: ``1x128:int64,1x128:bool``;
    ``mask=1x128:int64`` is a keyword argument. Floats are standard normal, integers 0 or 1. The
    first dimension of the first argument counts as the batch.

    Raises:
        PlanError: a spec or file cannot be read.
    """
    generator = torch.Generator().manual_seed(seed)
    found: list[CallInput] = []
    for text in texts:
        if Path(text).suffix in {".pt", ".pth"}:
            found += inputs_from_file(Path(text))
        elif Path(text).suffix == ".safetensors":
            found += [CallInput(*one) for one in read_inputs(Path(text))]
        else:
            found.append(_from_spec(text, generator))
    return as_call_inputs(found)


def inputs_from_file(path: Path) -> tuple[CallInput, ...]:
    """Read a list of inputs that ``torch.save`` wrote; only tensors and plain containers load.

    Raises:
        PlanError: the file is missing, damaged or holds anything else.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise PlanError(f"there is no input file {path}") from None
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PlanError(
            f"input file {path} cannot be loaded ({reason}); save a list of tensors, tuples or "
            "dicts with torch.save; nothing else is unpickled"
        ) from error
    return as_call_inputs(content if isinstance(content, list) else [content])


def _from_spec(text: str, generator: torch.Generator) -> CallInput:
    args: list[torch.Tensor] = []
    kwargs: dict[str, torch.Tensor] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*(?:(\w+)=)?(\d+(?:x\d+)*)(?::(\w+))?\s*", part)
        if match is None:
            raise PlanError(
                f"input {text!r} is neither a file (.pt, .safetensors) nor a spec such as "
                "8x3x224x224:float32"
            )
        dtype = getattr(torch, match[3] or "float32", None)
        if not isinstance(dtype, torch.dtype):
            raise PlanError(f"input {text!r} names the dtype {match[3]!r}, which torch lacks")
        try:
            tensor = _drawn([int(size) for size in match[2].split("x")], dtype, generator)
        except (RuntimeError, TypeError, OverflowError, MemoryError) as error:
            raise PlanError(
                f"input {part!r} cannot be made: {str(error).splitlines()[0]}"
            ) from error
        if match[1]:
            kwargs[match[1]] = tensor
        elif kwargs:
            raise PlanError(f"input {text!r} has a positional argument after a keyword argument")
        else:
            args.append(tensor)
    return CallInput(tuple(args), kwargs, items_of(tuple(args), kwargs))


def items_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """How many samples a call has: the first dimension of its first tensor, if that has two."""
    first = next(iter(tensors_of((args, dict(kwargs)))), None)
    if first is None or first.dim() < 2:
        return 1
    return max(int(first.shape[0]), 1)


def _drawn(shape: list[int], dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    if dtype.is_floating_point or dtype.is_complex:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.randint(2, shape, generator=generator).to(dtype)
