"""Headers as they are sent: with what ``env:NAME`` and ``file:PATH`` stand for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inferload.errors import PlanError
from inferload.plan.server import is_secret

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


def resolved_body(body: Any, name: str = "") -> tuple[Any, tuple[str, ...]]:
    """A body with what its secrets stand for, and these.

    Raises:
        PlanError: one is not there.
    """
    if isinstance(body, dict):
        pairs = {key: resolved_body(value, str(key)) for key, value in body.items()}
        return {key: own for key, (own, _) in pairs.items()}, sum(
            (found for _, found in pairs.values()), ()
        )
    if isinstance(body, list | tuple):
        parts = [resolved_body(value, name) for value in body]
        return [own for own, _ in parts], sum((found for _, found in parts), ())
    if isinstance(body, str) and is_secret(name) and (own := _found(name, body)) is not None:
        return own, (own,)
    return body, ()


def _found(name: str, word: str) -> str | None:
    """What a word stands for; ``None``: itself."""
    if word.startswith("env:"):
        variable = word.removeprefix("env:")
        value = os.environ.get(variable)
        if not value:
            raise PlanError(
                f"{name} is to hold the environment variable {variable}, which is not "
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
                f"{name} is to hold the file {path}, which cannot be read: {reason}"
            ) from None
    return None


def _checked(name: str, value: str) -> str:
    if any(ord(one) < 32 or ord(one) == 127 for one in value):
        raise PlanError(f"what {name} is to hold has a line break in it")
    return value
