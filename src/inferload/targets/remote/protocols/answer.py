"""A whole answer as it came: what is in it is read where somebody wants that."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of an answer, and its headers."""

    body: bytes = field(repr=False)
    headers: Any = field(repr=False)
