"""Inputs as users give them: values, files, specs in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.utils.rnn import PackedSequence

from inferload.errors import PlanError
from inferload.targets.inputs.call_input import CallInput, item_count, tensors_of
from inferload.targets.inputs.safetensors_file import read_inputs
from inferload.targets.inputs.specs import drawn_inputs
from inferload.targets.inputs.texts import bodies_from_file, drawn_texts, is_text_spec
from inferload.units import bytes_text

if TYPE_CHECKING:
    from collections.abc import Sequence

# What is no list or tuple is read this far: a loader may go through a whole data set, and a
# generator may have no end.
MOST_READ = 10_000
MOST_READ_BYTES = 4 * 2**30


def as_call_inputs(inputs: object, seed: int = 0) -> tuple[CallInput, ...]:
    """Read inputs, however they are given: a sequence, a loader, or anything that ends.

    An input is a ``CallInput``, a tensor, a numpy array or an object of a class of its own (one
    positional argument), a tuple or list (args), or a mapping of any class (kwargs). Of strings it
    is what ``--inputs`` of the command line makes of them, drawn with ``seed``.

    Raises:
        PlanError: there are none or too many, or one is none of these.
    """
    one = isinstance(inputs, torch.Tensor | np.ndarray | CallInput | PackedSequence | str | bytes)
    if one or isinstance(inputs, Mapping):
        raise PlanError(
            f"inputs must be a sequence of inputs, not one {type(inputs).__name__}: "
            "put it in a list, [x]"
        )
    if not isinstance(inputs, Iterable) and not hasattr(inputs, "__getitem__"):
        raise PlanError(
            f"inputs must be a sequence of inputs, not {type(inputs).__name__}: give a list, such "
            "as [torch.zeros(1, 8)]"
        )
    listed = list(inputs) if isinstance(inputs, list | tuple) else _read(inputs)
    if listed and all(isinstance(one, str) for one in listed):
        return inputs_from_text(listed, seed)
    if not listed:
        raise PlanError("there are no inputs: give at least one, for example [torch.zeros(1, 8)]")
    return tuple(_as_call_input(number, one) for number, one in enumerate(listed))


def _as_call_input(number: int, value: Any) -> CallInput:
    if isinstance(value, torch.Tensor | np.ndarray | PackedSequence):
        value = CallInput((value,))
    elif isinstance(value, tuple | list):
        value = CallInput(tuple(value))
    elif isinstance(value, Mapping):
        # not by dict(value): a class of its own may make something else of that
        value = CallInput((), {name: value[name] for name in value})
    elif not isinstance(value, CallInput | Iterator) and type(value).__module__ != "builtins":
        value = CallInput((value,))  # a graph, an image, a dict of tensors of its own
    if not isinstance(value, CallInput):
        kind = type(value).__name__
        raise PlanError(
            f"input {number} is a {kind}: an input is a tensor, an array or an object (one "
            "positional argument), a tuple or list (args), a mapping (kwargs) or a CallInput. Make "
            f"it one, as dict(x) or tuple(x); CallInput((x,)) passes a {kind} as the one argument"
        )
    names = [name for name in value.kwargs if not isinstance(name, str)]
    if names:
        raise PlanError(f"input {number} has a keyword that is no string: {names[0]!r}")
    items = item_count(value)
    if isinstance(items, bool) or not isinstance(items, int) or items < 1:
        raise PlanError(f"input {number} has items={items!r}: it must be 1 or more")
    return replace(value, items=items)


def inputs_from_text(texts: Sequence[str], seed: int) -> tuple[CallInput, ...]:
    """Read ``--inputs``: each text is a file, or a spec of one input or several.

    A ``.pt`` file is what ``torch.save`` wrote, a ``.safetensors`` what ``inferload.capture`` did,
    a ``.jsonl`` has a body of JSON a line; ``text:100..200`` are texts of so many words, and
    :func:`inferload.targets.inputs.specs.drawn_inputs` has what other specs say.

    Raises:
        PlanError: a spec or file cannot be read.
    """
    generator = torch.Generator().manual_seed(seed)
    found: list[CallInput] = []
    for text in texts:
        if Path(text).suffix in {".pt", ".pth"}:
            found += inputs_from_file(Path(text))
        elif Path(text).suffix == ".safetensors":
            path = str(Path(text).resolve())
            found += [
                CallInput(*one, recorded=(path, place))
                for place, one in enumerate(read_inputs(Path(text)))
            ]
        elif Path(text).suffix == ".jsonl":
            found += bodies_from_file(Path(text))
        elif is_text_spec(text):
            found += drawn_texts(text, seed)
        else:
            found += [
                CallInput(args, kwargs, drawn=drawn)
                for args, kwargs, drawn in drawn_inputs(text, generator)
            ]
    return as_call_inputs(found)


def inputs_from_file(path: Path) -> tuple[CallInput, ...]:
    """Read a list of inputs that ``torch.save`` wrote, or one input that is no list.

    Only tensors and plain containers load.

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
            f"input file {path} cannot be loaded ({reason}); save a list of tensors, tuples, "
            "lists or dicts with torch.save; nothing else is unpickled"
        ) from error
    return as_call_inputs(content if isinstance(content, list) else [content])


def _read(inputs: Any) -> list[Any]:
    """What a loader or generator gives, if it ends.

    Raises:
        PlanError: it gives more than a run could hold.
    """
    found, held_bytes, kind = [], 0, type(inputs).__name__
    for one in islice(inputs, MOST_READ + 1):
        found.append(one)
        held_bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors_of(one))
        if len(found) > MOST_READ or held_bytes > MOST_READ_BYTES:
            much = f"{len(found) - 1:,} inputs ({bytes_text(held_bytes)})"
            raise PlanError(
                f"inputs are a {kind} that had not ended after {much}, and each caller has copies "
                "of all: give some of them, as list(itertools.islice(inputs, 100))"
            )
    return found
