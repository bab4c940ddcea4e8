"""A model, or several, in words that any process understands."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberSource:
    """One model of a mix, in words."""

    name: str
    spec: str
    weight: float
    form: str | None = None
    input_texts: tuple[str, ...] = ()
    callers: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """A model in words that any process understands, as the command line has them.

    ``spec`` is ``MODEL``, or the run file of a mix, whose models are ``members``.
    """

    spec: str
    members: tuple[MemberSource, ...] = ()
    input_texts: tuple[str, ...] = ()
    form: str | None = None
    autocast: str | None = None
    seed: int = 0
