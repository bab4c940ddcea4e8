"""When calls are due."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

from inferload.errors import PlanError


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLoop:
    """Each caller calls again as soon as its last call returned.

    Raises:
        PlanError: ``callers`` is not a whole number of 1 or more.
    """

    callers: int = 1

    def __post_init__(self) -> None:
        check_count("callers", self.callers, at_least=1, at_most=10_000)

    def __str__(self) -> str:
        return "closed loop"


def check_count(name: str, value: object, *, at_least: int, at_most: int = 2**62) -> None:
    """Refuse a number that is no whole number, too small or too large.

    Raises:
        PlanError: naming the option and the value.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or not at_least <= int(value) <= at_most:  # type: ignore[call-overload]
        more = "more" if at_most == 2**62 else f"at most {at_most:,}"
        raise PlanError(f"{name} is {value!r}: it must be a whole number of {at_least} or {more}")
