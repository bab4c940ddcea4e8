"""One piece of an answer that comes in pieces."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any

from inferload.errors import PlanError

# What a column of the log holds.
MOST_TOKENS = 2**31 - 1


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
            raise _no_number(self.tokens)


def tokens_said(piece: object) -> int | None:
    """How many tokens a piece says it is; ``None``: it does not.

    Raises:
        PlanError: it says an integer that is no number of tokens.
    """
    found: Any = getattr(piece, "tokens", None)
    if not issubclass(type(found), Integral) or found is True or found is False:
        return None  # the tokens themselves, perhaps
    if 0 <= found <= MOST_TOKENS:
        return int(found)
    raise _no_number(found)


def _no_number(tokens: object) -> PlanError:
    return PlanError(f"a piece has {tokens!r} tokens: it must be a whole number from 0")
