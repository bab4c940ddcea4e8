"""JSON bodies: from inputs, by a template, and what is in an answer."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from inferload.errors import PlanError
from inferload.targets.remote.failures import NoAnswer, words_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inferload.targets.inputs.call_input import CallInput

JSON = {"Content-Type": "application/json"}


def encoded(number: int, body: Any) -> bytes:
    """A body as it is sent.

    Raises:
        PlanError: it has something that JSON has not.
    """
    try:
        return json.dumps(plain(body), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise PlanError(f"input {number} cannot be sent as JSON: {error}") from None


def plain(value: Any) -> Any:
    """The value with lists in place of tensors and arrays, and base64 in place of bytes."""
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value


def filled(template: Any, one: CallInput, used: set[str]) -> Any:
    """A template with the arguments of an input in place of their names in braces.

    ``{input}`` is the one positional argument, or the only one. A text that is nothing else becomes
    the argument itself, whatever it is; within another text it must be text. ``used``: the names
    that were found are added to it.
    """
    if isinstance(template, dict):
        return {key: filled(value, one, used) for key, value in template.items()}
    if isinstance(template, list | tuple):
        return [filled(value, one, used) for value in template]
    if not isinstance(template, str) or "{" not in template:
        return template
    named = names_of(one)
    for name, value in named.items():
        if template == f"{{{name}}}":
            used.add(name)
            return value

    def argument(found: re.Match[str]) -> str:
        used.add(found[1])
        value = named[found[1]]
        if not isinstance(value, str | int | float):
            raise PlanError(
                f"{found[0]} stands within a text of the body, and is a {type(value).__name__}: "
                'let it stand alone, as "{input}"'
            )
        return str(value)

    # in one pass: what an argument holds is no template
    return re.sub("{(" + "|".join(map(re.escape, named)) + ")}", argument, template)


def names_of(one: CallInput) -> Mapping[str, Any]:
    """The arguments of an input by the names that a template has for them."""
    named = dict(one.kwargs)
    if len(one.args) == 1:
        named["input"] = one.args[0]
    elif not one.args and len(named) == 1:
        named["input"] = next(iter(named.values()))
    else:
        named |= {str(place): value for place, value in enumerate(one.args)}
    return named


def glance(body: bytes, key: bytes = b"") -> None:
    """Whether a body looks like JSON, and has a key; without reading all of it.

    Raises:
        NoAnswer: it does not.
    """
    first, last = body[:1], body[-1:]
    if first not in b"{[" or last not in b"}]" or not first:
        stripped = body.strip()
        first, last = stripped[:1], stripped[-1:]
    if not first:
        raise NoAnswer("the answer is empty")
    if (first == b"{" and last != b"}") or (first == b"[" and last != b"]"):
        raise NoAnswer("the answer is JSON that breaks off")
    if key and key not in body:
        raise NoAnswer(f"the answer has no {key.decode()}: {words_of(body)}")


def with_tensors(value: Any) -> Any:
    """The value with tensors in place of lists of numbers that are not all whole.

    Most were float32 before they were JSON, and are compared as that.
    """
    if isinstance(value, dict):
        return {key: with_tensors(one) for key, one in value.items()}
    if not isinstance(value, list):
        return value
    try:
        found = torch.tensor(value)
    except (ValueError, TypeError, RuntimeError, OverflowError):
        return [with_tensors(one) for one in value]
    return found if found.is_floating_point() and found.numel() else value


def decoded(body: bytes) -> Any:
    """The values of a body.

    Raises:
        NoAnswer: it is no JSON.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise NoAnswer(f"the answer is no JSON: {words_of(body)}") from None
