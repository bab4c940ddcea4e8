"""Inputs drawn as a text says: shapes, dtypes, ranges of values, how many of them."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import torch

from inferload.errors import PlanError

if TYPE_CHECKING:
    #: Positional arguments, keyword arguments, and what its values were drawn from, in words.
    Drawn = tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor], str]

MOST_COPIES = 10_000
#: What integers are drawn from where a spec says nothing.
ZERO_OR_ONE = "drawn from 0 and 1"
_NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_ARGUMENT = re.compile(
    rf"\s*(?:(\w+)=)?(\d+(?:x\d+)*)(?::([A-Za-z]\w*))?(?::({_NUMBER})\.\.({_NUMBER}))?\s*"
)
_COUNT = re.compile(r"(.*\S)\s+x(\d+)\s*", re.DOTALL)


def drawn_inputs(text: str, generator: torch.Generator) -> list[Drawn]:
    """Draw the inputs of a spec such as ``8x3x224x224:float32`` or ``1x128:int64:0..30000 x16``.

    Each argument has a shape, a dtype and a range of values, of which the upper end is left out, as
    of Python's ``range``; commas stand between arguments, ``mask=1x128:int64`` is a keyword
    argument. Without a range floats are standard normal, and integers 0 or 1. `` x16`` at the end
    makes 16 inputs, each with values of its own.

    Raises:
        PlanError: the text is none, or its values cannot be drawn.

    >>> (args, kwargs, drawn), *more = drawn_inputs("2:int64:5..6 x3", torch.Generator())
    >>> args, drawn, len(more)
    ((tensor([5, 5]),), 'integers drawn from 5..6', 2)
    """
    spec, count = text, 1
    if match := _COUNT.fullmatch(text):
        spec, count = match[1], int(match[2])
        if not 1 <= count <= MOST_COPIES:
            raise PlanError(f"input {text!r} asks for {count} inputs: 1 to {MOST_COPIES:,} can be")
    return [_drawn_input(spec, generator) for _ in range(count)]


def _drawn_input(text: str, generator: torch.Generator) -> Drawn:
    args: list[torch.Tensor] = []
    kwargs: dict[str, torch.Tensor] = {}
    words: list[str] = []
    for part in text.split(","):
        match = _ARGUMENT.fullmatch(part)
        if match is None:
            raise PlanError(
                f"input {text!r} is neither a file (.pt, .safetensors, .jsonl) nor a spec such as "
                "8x3x224x224:float32, 1x128:int64:0..30000 (a range of values), "
                "'1x128:int64:0..30000 x16' (16 inputs) or text:100..200 (texts of so many words)"
            )
        name, shape, dtype_name, *ends = match.groups()
        dtype = getattr(torch, dtype_name or "float32", None)
        if not isinstance(dtype, torch.dtype):
            raise PlanError(f"input {text!r} names the dtype {dtype_name!r}, which torch lacks")
        sizes = [int(size) for size in shape.split("x")]
        try:
            if ends[0] is None:
                tensor, drawn = _drawn(sizes, dtype, generator)
            else:
                low, high = _ends(part.strip(), ends, dtype)
                tensor = _drawn_from(low, high, sizes, dtype, generator)
                kind = "numbers" if dtype.is_floating_point else "integers"
                drawn = f"{kind} drawn from {ends[0]}..{ends[1]}"
        except (RuntimeError, TypeError, OverflowError, MemoryError) as error:
            raise PlanError(
                f"input {part!r} cannot be made: {str(error).splitlines()[0]}"
            ) from error
        if drawn:
            words.append(f"{name}: {drawn}" if name else drawn)
        if name in kwargs:
            raise PlanError(f"input {text!r} has {name} twice: name each argument once")
        if name:
            kwargs[name] = tensor
        elif kwargs:
            raise PlanError(f"input {text!r} has a positional argument after a keyword argument")
        else:
            args.append(tensor)
    return tuple(args), kwargs, ", ".join(dict.fromkeys(words))


def _drawn(
    shape: list[int], dtype: torch.dtype, generator: torch.Generator
) -> tuple[torch.Tensor, str]:
    if dtype.is_floating_point or dtype.is_complex:
        return torch.randn(shape, generator=generator).to(dtype), ""
    found = torch.randint(2, shape, generator=generator).to(dtype)
    return found, "" if dtype == torch.bool else f"integers {ZERO_OR_ONE}"


def _ends(part: str, ends: list[Any], dtype: torch.dtype) -> tuple[float, float]:
    """Both ends of a range, checked.

    Raises:
        PlanError: values of this dtype cannot be drawn from it.
    """
    what = f"input {part!r} has the range {ends[0]}..{ends[1]}"
    if dtype == torch.bool or dtype.is_complex:
        raise PlanError(f"{what}, and {_name(dtype)} has none: leave it out")
    if dtype.is_floating_point:
        low, high = float(ends[0]), float(ends[1])
        limits = torch.finfo(dtype)
        fits = math.isfinite(high - low) and limits.min <= low and high <= limits.max
    else:
        if not all(re.fullmatch(r"[-+]?\d+", one) for one in ends):
            raise PlanError(f"{what}, and {_name(dtype)} has whole numbers: give such ends")
        low, high = int(ends[0]), int(ends[1])
        own = torch.iinfo(dtype)
        # torch draws 64-bit numbers with a sign
        fits = max(own.min, -(2**63)) <= low and high - 1 <= min(own.max, 2**63 - 2)
    if low >= high:
        raise PlanError(
            f"{what}, which is empty: its upper end is left out, so 0..10 are the numbers from 0 "
            "to 9"
        )
    if not fits:
        raise PlanError(f"{what}, which {_name(dtype)} cannot hold: it ends at {_limits(dtype)}")
    return low, high


def _drawn_from(
    low: float, high: float, shape: list[int], dtype: torch.dtype, generator: torch.Generator
) -> torch.Tensor:
    if dtype.is_floating_point:
        wide = torch.rand(shape, generator=generator, dtype=torch.float64)
        return (low + (high - low) * wide).to(dtype)
    return torch.randint(int(low), int(high), shape, generator=generator).to(dtype)


def _limits(dtype: torch.dtype) -> str:
    if dtype.is_floating_point:
        return f"{torch.finfo(dtype).max:g}"
    return f"{torch.iinfo(dtype).min} and {torch.iinfo(dtype).max}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
