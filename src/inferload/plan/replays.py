"""Arrival times that were recorded: read from a file, or checked."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING

import numpy as np

from inferload.errors import PlanError
from inferload.plan.numbers import number_or_none

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from inferload.log.arrays import Floats

# The first line of a file of times may be words; one that begins like a number is a mistake.
_HEADING = re.compile(r"[#\"']?\s*[^\W\d]")


def times_of_file(path: Path) -> Floats:
    """The times in a file, one a line, or in the first column of CSV; one line may be headings.

    Raises:
        PlanError: it cannot be read, or its times are none.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            cells = [row[0].strip() for row in csv.reader(file) if row and row[0].strip()]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise PlanError(f"the file of arrival times {path} cannot be read: {reason}") from error
    if cells and _HEADING.match(cells[0]) and number_or_none(cells[0]) is None:
        cells = cells[1:]
    for place, cell in enumerate(cells):
        if number_or_none(cell) is None:
            raise PlanError(
                f"{path}: entry {place + 1} is {cell[:40]!r}: each line must start with a number, "
                "the time in seconds"
            )
    return as_times([float(cell) for cell in cells], f"{path}: ")


def as_times(values: Sequence[float] | Floats, place: str = "") -> Floats:
    """Times in seconds as an array of shape ``(calls,)``; ``place``: what errors begin with.

    Raises:
        PlanError: they are not finite and ascending.
    """
    try:
        times = np.asarray(values, np.float64).ravel()
    except (TypeError, ValueError) as error:
        raise PlanError(f"{place}arrival times must be numbers of seconds: {error}") from error
    if len(times) == 0:
        raise PlanError(f"{place}there are no arrival times")
    with np.errstate(over="ignore", invalid="ignore"):
        near = np.ptp(times) <= 1e9
    if not np.isfinite(times).all() or not near:
        raise PlanError(f"{place}arrival times must be finite, and within 1e9 s of each other")
    falling = np.flatnonzero(np.diff(times) < 0)
    if len(falling):
        first = int(falling[0]) + 1
        raise PlanError(
            f"{place}arrival times must ascend: number {first + 1} is {times[first]:g} s after "
            f"{times[first - 1]:g} s"
        )
    return times
