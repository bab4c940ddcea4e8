"""Headers as they are sent: with what ``env:NAME`` and ``file:PATH`` stand for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from inferload.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Sequence

# What is shorter is no secret, and stands in many an innocent word.
_SHORTEST = 4


def resolved(given: Sequence[tuple[str, str]]) -> tuple[dict[str, str], tuple[str, ...]]:
    """The headers to be sent, and the values in them that are secret.

    Raises:
        PlanError: a variable is not set, or a file cannot be read; naming it.
    """
    headers: dict[str, str] = {}
    secrets: list[str] = []
    for name, value in given:
        words = []
        for word in value.split(" "):
            found = _found(name, word)
            words.append(word if found is None else found)
            if found is not None and len(found) >= _SHORTEST:
                secrets.append(found)
        headers[name] = " ".join(words)
    # the longest first: one may be part of another
    return headers, tuple(sorted(set(secrets), key=len, reverse=True))


def _found(name: str, word: str) -> str | None:
    """What a word stands for; ``None``: itself."""
    if word.startswith("env:"):
        variable = word.removeprefix("env:")
        value = os.environ.get(variable)
        if not value:
            raise PlanError(
                f"the header {name} is to hold the environment variable {variable}, which is not "
                f"set: export {variable}=..."
            )
        return _checked(name, value.strip())
    if word.startswith("file:"):
        path = Path(word.removeprefix("file:")).expanduser()
        try:
            return _checked(name, path.read_text(encoding="utf-8").strip())
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise PlanError(
                f"the header {name} is to hold the file {path}, which cannot be read: {reason}"
            ) from None
    return None


def _checked(name: str, value: str) -> str:
    if any(ord(one) < 32 or ord(one) == 127 for one in value):
        raise PlanError(f"what the header {name} is to hold has a line break in it")
    return value
