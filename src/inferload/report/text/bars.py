"""Bars of text."""

from __future__ import annotations

_EIGHTHS = " ▏▎▍▌▋▊▉"


def bar(share: float, width: int) -> str:
    """A bar of so many cells for a share of 1; whatever is more than nothing shows.

    >>> bar(0.5, 4), bar(1e-9, 4), bar(0, 4)
    ('██', '▏', '')
    """
    eighths = round(min(share, 1.0) * width * 8)
    if share > 0:
        eighths = max(eighths, 1)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
