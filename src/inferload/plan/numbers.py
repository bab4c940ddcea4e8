"""Numbers that a user gave, refused with their name and value where they cannot be."""

from __future__ import annotations

from numbers import Integral, Real

from inferload.errors import PlanError


def check_count(name: str, value: object, *, at_least: int, at_most: int = 2**62) -> None:
    """Refuse a number that is no whole number, too small or too large.

    Raises:
        PlanError: naming the option and the value.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or not at_least <= int(value) <= at_most:  # type: ignore[call-overload]
        too_large = whole and int(value) > at_most  # type: ignore[call-overload]
        span = f"from {at_least} to {at_most:,}"
        if at_most == 2**62 and not too_large:
            span = f"of {at_least} or more"
        raise PlanError(f"{name} is {value!r}: it must be a whole number {span}")


def check_positive(name: str, value: object, *, at_most: float, at_least: float = 0.0) -> None:
    """Refuse what is not a finite number above 0, or below ``at_least``.

    Raises:
        PlanError: naming the option and the value.
    """
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not max(at_least, 5e-324) <= float(value) <= at_most:  # type: ignore[arg-type]
        least = f"at least {at_least:g}" if at_least else "more than 0"
        raise PlanError(f"{name} is {value!r}: it must be {least}, and at most {at_most:g}")


def number_or_none(text: str) -> float | None:
    """Read a number, if the text is one."""
    try:
        return float(text)
    except ValueError:
        return None
