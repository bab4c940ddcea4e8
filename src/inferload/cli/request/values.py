"""Several values in one flag: ``1,2,4``, ``1..16``, ``50..200:50``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from inferload.errors import PlanError
from inferload.plan.batching import delay_from_text

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_VALUES = 1000
MOST = 1e12
_RANGE = re.compile(r"([\d.]+?)\.\.([\d.]+?)(?::([\d.]+))?")
T = TypeVar("T", int, float)


def counts(flag: str, text: str) -> tuple[int, ...]:
    """Read whole numbers.

    >>> counts("callers", "1..3,8")
    (1, 2, 3, 8)

    Raises:
        PlanError: the text is not understood, or names too many.
    """
    return _values(flag, text, _whole, "1,2,4 or 1..8")


def numbers(flag: str, text: str) -> tuple[float, ...]:
    """Read numbers above 0.

    >>> numbers("rates", "50..150:50,400")
    (50.0, 100.0, 150.0, 400.0)

    Raises:
        PlanError: the text is not understood, or names too many.
    """
    return _values(flag, text, _number, "100,200 or 50..200:50")


def delays(flag: str, text: str) -> tuple[float, ...]:
    """Read times, in seconds; 0 is one.

    >>> delays("max-delays", "0,2ms")
    (0.0, 0.002)

    Raises:
        PlanError: one is not understood.
    """
    return tuple(delay_from_text(one) for one in words(flag, text))


def words(flag: str, text: str) -> tuple[str, ...]:
    """Read words.

    Raises:
        PlanError: one is empty.
    """
    found = tuple(one.strip() for one in text.split(","))
    if not all(found):
        raise PlanError(f"--{flag} {text!r} names an empty one")
    return found


class _BeyondError(ValueError):
    """A number that is too small, too large, or none."""


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise ValueError(text)
    return int(text)


def _number(text: str) -> float:
    found = float(text)
    if not 0 < found < MOST:
        raise _BeyondError(text)
    return found


def _values(flag: str, text: str, read: Callable[[str], T], example: str) -> tuple[T, ...]:
    found: list[T] = []
    for one in map(str.strip, text.split(",")):
        match = _RANGE.fullmatch(one)
        try:
            if match is None:
                found.append(read(one))
                continue
            first, last, step = read(match[1]), read(match[2]), read(match[3] or "1")
        except _BeyondError as error:
            raise PlanError(
                f"--{flag} has {error}: each must be more than 0, and less than {MOST:g}"
            ) from None
        except ValueError:
            raise PlanError(
                f"--{flag} {text!r} is not understood: give numbers, as {example}"
            ) from None
        if step <= 0 or last < first:
            raise PlanError(f"--{flag} {one!r} has no value: give a range that goes up")
        count = min((last - first) / step + 1e-9, MOST_VALUES) + 1  # the step may be next to none
        if len(found) + count > MOST_VALUES:
            raise PlanError(f"--{flag} {text!r} names more than {MOST_VALUES} values: give fewer")
        found += [first + number * step for number in range(int(count))]
    return tuple(found)
