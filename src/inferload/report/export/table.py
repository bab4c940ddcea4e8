"""The call log as a table: CSV or Parquet."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from inferload.errors import PlanError
from inferload.report.export.rows import sample_note

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from inferload.log.calls import CallLog
    from inferload.records.result import RunResult

# Rows of a CSV that are turned into text at a time.
CHUNK_ROWS = 65_536


def columns(log: CallLog) -> dict[str, NDArray[Any]]:
    """Every column of a log, times in nanoseconds from the start line, and what follows from them.

    ``error`` is -1, or the number of the exception; stages are -1 where a call has none.
    """
    return {
        "scheduled_ns": log.scheduled_ns,
        "started_ns": log.started_ns,
        "finished_ns": log.finished_ns,
        "queue_ns": log.queue_ns,
        "service_ns": log.service_ns,
        "response_ns": log.response_ns,
        **log.stages,
        **log.batches,
        **({"first_ns": log.first_ns} if log.answers else {}),
        **log.answers,
        "process": log.process,
        "caller": log.caller,
        "input": log.input,
        "error": log.error,
    }


def write(result: RunResult, file: Path, *, ending: str, duration: str) -> str | None:
    """A row for each call, and the exception in words."""
    del duration
    found = columns(result.log)
    errors = [f"{one.type}: {one.gist}" for one in result.log.errors]
    (_write_parquet if ending == ".parquet" else _write_csv)(result, file, found, errors)
    return sample_note(result.log)


def _write_csv(
    result: RunResult, file: Path, found: dict[str, NDArray[Any]], errors: list[str]
) -> None:
    del result
    words = np.array([*errors, ""], dtype=object)  # -1 is the last one
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow([*found, "exception"])
        for begin in range(0, len(found["caller"]), CHUNK_ROWS):
            part = [column[begin : begin + CHUNK_ROWS] for column in found.values()]
            exceptions = words[part[-1]].tolist()
            writer.writerows(zip(*(column.tolist() for column in part), exceptions, strict=True))


def _write_parquet(
    result: RunResult, file: Path, found: dict[str, NDArray[Any]], errors: list[str]
) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise PlanError(
            "Parquet is written by pyarrow, which is not installed: pip install 'inferload[export]'"
        ) from None
    number = found["error"]
    exception = pa.DictionaryArray.from_arrays(
        pa.array(np.maximum(number, 0), mask=number < 0), pa.array(errors, pa.string())
    )
    table = pa.table({**found, "exception": exception}).replace_schema_metadata(
        {
            "inferload.run_id": result.run_id,
            "inferload.made_by": result.made_by or "",
            "inferload.targets.inputs.call_input": json.dumps(result.spec.inputs),
        }
    )
    pq.write_table(table, file, compression="zstd")
