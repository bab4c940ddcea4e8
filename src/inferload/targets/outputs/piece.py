"""One piece of an answer that comes in pieces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from inferload.errors import PlanError


@dataclass(frozen=True, slots=True)
class Piece:
    """What a model yields that answers in pieces, where one piece is not one token.

    A piece of any other class that has an integer attribute ``tokens`` says the same; all others
    are a token each.

    >>> Piece("the first words", tokens=3).tokens
    3

    Raises:
        PlanError: ``tokens`` is no number of tokens.
    """

    value: Any = None
    tokens: int = 1

    def __post_init__(self) -> None:
        if tokens_said(self) is None:
            raise PlanError(f"a piece has {self.tokens!r} tokens: it must be a whole number from 0")


def tokens_said(piece: object) -> int | None:
    """How many tokens a piece says it is; ``None``: it does not."""
    found = getattr(piece, "tokens", None)
    if isinstance(found, int) and not isinstance(found, bool) and found >= 0:
        return found
    return None
