"""Inputs that are texts: bodies of JSON from a file, and texts drawn of a length."""

from __future__ import annotations

import json
import random
import re
from typing import TYPE_CHECKING, Any

from inferload.errors import PlanError
from inferload.targets.inputs.call_input import CallInput

if TYPE_CHECKING:
    from pathlib import Path

# So many texts are drawn where a spec does not say how many.
TEXTS = 64
MOST_TEXTS = 10_000
MOST_WORDS = 1_000_000
_SPEC = re.compile(r"\s*(?:(\w+)=)?text:(\d+)(?:\.\.(\d+))?(?:\s+x(\d+))?\s*")
# Common words of one or two tokens in most vocabularies.
_SOME = """
    time year people way day man thing woman life child world school state family student group
    country problem hand part place case week company system program question work night point
    home water room mother area money story fact month lot right study book eye job word business
    issue side kind head house service friend father power hour game line end member law car city
    name team minute idea body back parent face others level office door health person art war
    history party result change morning reason research girl guy moment air teacher force order
"""
_WORDS = _SOME.split()


def is_text_spec(text: str) -> bool:
    """Whether an input in words is of texts.

    >>> is_text_spec("text:100..200"), is_text_spec("prompt=text:8 x4"), is_text_spec("8x32")
    (True, True, False)
    """
    return _SPEC.fullmatch(text) is not None


def drawn_texts(text: str, seed: int) -> list[CallInput]:
    """Draw texts of so many words, as ``text:100..200``, whose upper end is left out.

    ``prompt=text:100`` names the argument; ``text:100 x16`` are 16 of them.

    Raises:
        PlanError: there are none such.

    >>> [one.kwargs for one in drawn_texts("text:2..3 x2", 0)]
    [{'text': 'school kind'}, {'text': 'team team'}]
    """
    match = _SPEC.fullmatch(text)
    if match is None:
        raise AssertionError("whoever asks has looked")
    name, low, high = match[1] or "text", int(match[2]), int(match[3] or int(match[2]) + 1)
    count = int(match[4] or TEXTS)
    if not 1 <= low < high or high - 1 > MOST_WORDS:
        raise PlanError(
            f"input {text!r} has no length: give a number of words from 1 to {MOST_WORDS:,}, or a "
            "range as text:100..200, whose upper end is left out"
        )
    if not 1 <= count <= MOST_TEXTS:
        raise PlanError(f"input {text!r} asks for {count} texts: 1 to {MOST_TEXTS:,} can be")
    draw = random.Random(f"{seed} {text}")  # noqa: S311 - texts, not secrets
    words = f"texts of {low}..{high} words" if match[3] else f"texts of {low} words"
    return [
        CallInput(
            (), {name: " ".join(draw.choices(_WORDS, k=draw.randrange(low, high)))}, drawn=words
        )
        for _ in range(count)
    ]


def bodies_from_file(path: Path) -> list[CallInput]:
    """Read a file of JSON, a body a line: the fields of an object are keyword arguments.

    Raises:
        PlanError: it cannot be read, naming the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise PlanError(f"there is no input file {path}") from None
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8"
        raise PlanError(f"input file {path} cannot be read: {reason}") from None
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value: Any = json.loads(line)
        except ValueError as error:
            raise PlanError(f"{path}, line {number} is no JSON: {error}") from None
        own = CallInput((), value) if isinstance(value, dict) else CallInput((value,))
        found.append(own)
    if not found:
        raise PlanError(f"input file {path} has no line: each is the JSON of a body")
    return found
