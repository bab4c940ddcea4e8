"""Arrival times that were recorded: read from a file of times or of captured calls, or checked."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING

import numpy as np

from inferload.errors import PlanError
from inferload.plan.arrivals.schedule import Schedule
from inferload.plan.numbers import number_or_none
from inferload.records.recording import Recording
from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from inferload.log.arrays import Floats

#: How the name of a file of captured calls ends.
CAPTURED = ".safetensors"
#: What a file of captured calls calls itself, and where it has when they came, and of how many.
CAPTURE_FORMAT, ARRIVALS, SEEN = "inferload inputs", "arrivals_s", "seen"
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


def times_of_capture(path: Path, speed: float) -> tuple[Floats, Recording]:
    """The times of captured calls, in seconds, and what they are of.

    Raises:
        PlanError: the file cannot be read, or has none.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as opened:
            metadata = opened.metadata() or {}
            times = opened.get_tensor(ARRIVALS) if ARRIVALS in opened.keys() else None  # noqa: SIM118
    except FileNotFoundError:
        raise PlanError(f"there is no file {path} to replay") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise PlanError(f"{path} is damaged, or no safetensors ({error})") from error
    if metadata.get("format") != CAPTURE_FORMAT:
        raise PlanError(f"{path} has no captured calls: inferload.capture writes such files")
    if times is None:
        raise PlanError(
            f"{path} was captured by a version that did not keep when calls came: capture again, "
            "or replay a file of times"
        )
    found = as_times(times, f"{path}: ")
    told = metadata.get(SEEN, "")
    seen = int(told) if told.isascii() and told.isdigit() else -1
    if seen < len(found):
        raise PlanError(
            f"{path} is damaged: it has the times of {len(found):,} calls, of {told or 'no'} seen"
        )
    return found, Recording(path=str(path.resolve()), kept=len(found), seen=seen, speed=speed)


def schedule_of_times(
    times_s: Floats, calls: int | None, duration_s: float | None, recording: Recording | None
) -> Schedule:
    """When so many of the calls, or those of a time, are due; the first at the start line."""
    times = np.rint(times_s * NS_PER_S).astype(np.int64)
    # after the last of a file the next is due after the mean time between two
    gap_ns = int(times[-1]) // max(len(times) - 1, 1)
    ends = np.append(times[1:], times[-1] + gap_ns)
    count = len(times) if calls is None else min(calls, len(times))
    span_ns = int(ends[count - 1])
    if duration_s is not None:
        count = int(np.searchsorted(times, int(duration_s * NS_PER_S)))
        span_ns = min(int(duration_s * NS_PER_S), int(ends[-1]))
    rows = None if recording is None else np.arange(count, dtype=np.int32)
    return Schedule(times_ns=times[:count], period_ns=0, calls=count, span_ns=span_ns, rows=rows)


def replay_text(recording: Recording) -> str:
    """What is replayed, and how fast."""
    name = recording.path.rpartition("/")[2]
    faster = "" if recording.speed == 1 else f" at {recording.speed:g}x"
    share = recording.seen / recording.kept
    sample = f", a sample of one call in {share:.3g}," if share > 1 else ""
    return f"replay of {name}{sample}{faster}"


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
