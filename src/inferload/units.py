"""Quantities in words: durations, rates, sizes and counts, to and from text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from inferload.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Sequence

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_SECONDS_PER_UNIT = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
# Durations that differ by less than a millionth of their unit read the same.
_MOST_DECIMALS = 6


def duration_s(text: str) -> float:
    """Read ``"10s"``, ``"1.5m"``, ``"250ms"`` or ``"2h"``; a bare number is seconds.

    >>> duration_s("1.5m")
    90.0

    Raises:
        PlanError: the text is not a duration greater than zero.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*", text)
    unit = (match[2] or "s") if match else ""
    if match is None or unit not in _SECONDS_PER_UNIT or float(match[1]) == 0:
        raise PlanError(f"duration {text!r} is not understood: write for example 10s, 250ms or 2m")
    return float(match[1]) * _SECONDS_PER_UNIT[unit]


def fraction(text: str) -> float:
    """Read ``"2%"`` or ``"0.02"``.

    >>> fraction("2%"), fraction("0.5")
    (0.02, 0.5)

    Raises:
        PlanError: the text is not a fraction greater than zero.
    """
    number = text.strip().removesuffix("%")
    try:
        value = float(number) / (100 if number != text.strip() else 1)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise PlanError(f"fraction {text!r} is not understood: write for example 2%")
    return value


def printable(text: str) -> str:
    r"""A text in which nothing moves the cursor, ends a line or turns the direction of writing.

    >>> printable("no\x1b[31m\nway")
    'no\ufffd[31m way'
    """
    return _CONTROL.sub(lambda one: " " if one[0].isspace() else "\ufffd", text)


def duration_text(seconds: float) -> str:
    """Write a duration with three significant digits and the unit that suits it.

    >>> duration_text(0.0000214), duration_text(12.5), duration_text(3723)
    ('21.4 us', '12.5 s', '1 h 02 min')
    """
    if seconds >= 3600:
        hours, rest = divmod(round(seconds), 3600)
        return f"{hours} h {rest // 60:02d} min"
    if seconds >= 100:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest:02d} s"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= 0.9995 * scale:
            return f"{_three_digits(seconds / scale)} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def milliseconds_text(milliseconds: float) -> str:
    """Write a duration given in milliseconds.

    >>> milliseconds_text(1.5)
    '1.50 ms'
    """
    return duration_text(milliseconds / 1e3)


def edges_text(edges_ms: Sequence[float]) -> list[str]:
    """Write durations, given in milliseconds, so that no two that differ read the same.

    Three digits where these tell them apart; otherwise all have the unit of the largest, and as
    many decimals as it takes, up to six.

    >>> edges_text([0.9, 1.13, 1.41])
    ['900 us', '1.13 ms', '1.41 ms']
    >>> edges_text([10.08, 10.093, 10.112])
    ['10.08 ms', '10.09 ms', '10.11 ms']
    """
    texts = [milliseconds_text(edge) for edge in edges_ms]
    different = len(set(edges_ms))
    if len(set(texts)) == different:
        return texts
    largest_s = max(edges_ms) / 1e3
    units = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9))
    unit, scale = next((one for one in units if largest_s >= 0.9995 * one[1]), units[-1])
    for decimals in range(_MOST_DECIMALS + 1):
        longer = [f"{edge / 1e3 / scale:,.{decimals}f} {unit}" for edge in edges_ms]
        if len(set(longer)) == different:
            return longer
    return texts


def rate_text(per_s: float) -> str:
    """Write a rate without its unit: three significant digits, thousands separated.

    >>> rate_text(12345.6), rate_text(21.37)
    ('12,346', '21.4')
    """
    return f"{per_s:,.0f}" if per_s >= 100 else _three_digits(per_s)


def bytes_text(count: float) -> str:
    """Write a size in binary units.

    >>> bytes_text(36_000_000)
    '34.3 MiB'
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def count_text(count: int, noun: str) -> str:
    """Write a count with its noun in the right number.

    >>> count_text(1, "caller"), count_text(4, "caller")
    ('1 caller', '4 callers')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _three_digits(value: float) -> str:
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def ranges_text(numbers: Sequence[int]) -> str:
    """Write numbers in the kernel's way.

    >>> ranges_text([0, 1, 2, 5, 7, 8])
    '0-2,5,7-8'
    """
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)
