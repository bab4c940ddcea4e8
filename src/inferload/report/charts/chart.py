"""A chart: its curves, axes and words, as Plotly reads them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One chart: what Plotly draws, and what those are told who do not see it.

    ``data`` and ``layout`` are Plotly's, with colours as ``var(--c1)``. ``says`` is the chart in a
    sentence, ``how`` how its figures were made, ``columns`` the series themselves by heading.
    """

    name: str
    title: str
    says: str
    how: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    columns: dict[str, Sequence[Any]] = field(default_factory=dict)
    height: int = 340


def series(values: Any, digits: int = 5) -> list[Any]:
    """Numbers for Plotly: rounded to so many significant digits, ``None`` for what is no number."""
    return [
        None if value is None or not math.isfinite(value) else float(f"{value:.{digits}g}")
        for value in np.asarray(values, np.float64).tolist()
    ]
