"""A result in the formats of other tools, by the ending of the file's name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from inferload.errors import PlanError
from inferload.files import check_writable, replacing

if TYPE_CHECKING:
    import os

    from inferload.records.result import RunResult

#: What each ending is written by, and what it is.
FORMATS = {
    ".csv": ("table", "every call, a row each"),
    ".parquet": ("table", "the same, for pandas, Polars or DuckDB"),
    ".hgrm": ("hgrm", "percentiles as HdrHistogram prints them"),
    ".prom": ("openmetrics", "figures in OpenMetrics, as Prometheus reads them"),
    ".pftrace": ("perfetto", "a track for each caller, for ui.perfetto.dev"),
}
DURATIONS = ("response", "service", "queue", "first", "gap")


def check_export(path: Path) -> None:
    """Refuse a file that cannot be written, or whose ending is unknown.

    Raises:
        PlanError: naming the file.
    """
    if path.suffix.lower() not in FORMATS:
        known = ", ".join(FORMATS)
        raise PlanError(f"{path} ends in none of {known}: its ending says what is written")
    check_writable(path)


def export(
    result: RunResult, path: str | os.PathLike[str], *, duration: str = "response"
) -> str | None:
    """Write a result for other tools: ``.csv``, ``.parquet``, ``.hgrm``, ``.prom``, ``.pftrace``.

    Args:
        result: of a run.
        path: its ending says what is written.
        duration: of a ``.hgrm``, which of the durations: ``"response"``, ``"service"``,
            ``"queue"``, or of calls that answer in pieces ``"first"``, from when a call was due to
            its first piece, or ``"gap"``, between two pieces.

    Returns:
        what is left out, in a sentence; ``None`` if nothing is.

    Raises:
        PlanError: the ending is unknown, or what writes it is not installed.
        OSError: the file could not be written.
    """
    path = Path(path)
    check_export(path)
    if duration not in DURATIONS:
        raise PlanError(
            f"{duration!r} is no duration of calls: choose {', '.join(DURATIONS)} (--of)"
        )
    if duration == "queue" and not result.log.open_loop:
        raise PlanError(
            f"{path} would be empty: calls of a closed loop wait in no queue; give an open loop "
            "(--rate), or take response or service"
        )
    if duration in {"first", "gap"} and result.summary.pieces is None:
        raise PlanError(f"{path} would be empty: calls of this run gave no pieces")
    ending = path.suffix.lower()
    module = import_module(f"inferload.report.export.{FORMATS[ending][0]}")
    with replacing(path) as file:
        left_out: str | None = module.write(
            result, file, ending=path.suffix.lower(), duration=duration
        )
    return left_out
