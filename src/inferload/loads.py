"""When calls are due."""

from __future__ import annotations

from dataclasses import dataclass

from inferload.errors import PlanError


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLoop:
    """Each caller calls again as soon as its last call returned.

    Raises:
        PlanError: ``callers`` is not a whole number of 1 or more.
    """

    callers: int = 1

    def __post_init__(self) -> None:
        check_count("callers", self.callers, at_least=1)

    def __str__(self) -> str:
        return "closed loop"


def check_count(name: str, value: object, *, at_least: int) -> None:
    """Refuse a number that is no whole number, or too small.

    Raises:
        PlanError: naming the option and the value.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise PlanError(f"{name} is {value!r}: it must be a whole number of {at_least} or more")
