"""A finished log as a file: a header, one column after another, and the tally of a long run.

The header is 4 KiB: a line of magic, then JSON. Columns follow as little-endian arrays, in the
order of ``log_file.COLUMNS``. Of a tally only the buckets that hold calls are written.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from inferload.call_log import CallFailure, CallLog, CallTally
from inferload.errors import ResultFormatError
from inferload.hdr import BUCKETS
from inferload.log_file import COLUMNS, HEADER_BYTES, ROW_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

MAGIC = b"inferload calls\n"
VERSION = 1


def write_log(path: Path, log: CallLog, run_id: str) -> None:
    """Write a finished log to ``path``.

    Raises:
        OSError: the file could not be written.
    """
    arrays = [] if log.tally is None else _arrays(log.tally)
    header = {
        "version": VERSION,
        "rows": len(log),
        "run_id": run_id,
        "endian": "little",
        "tally": None if log.tally is None else _described(log.tally),
        "tally_bytes": sum(array.nbytes for array in arrays),
    }
    with path.open("wb") as file:
        file.write((MAGIC + json.dumps(header).encode()).ljust(HEADER_BYTES, b"\0"))
        for name, dtype in COLUMNS.items():
            file.write(np.ascontiguousarray(getattr(log, name), dtype).data)
        for array in arrays:
            file.write(array.data)


def read_log(path: Path, run_id: str, errors: Sequence[CallFailure]) -> CallLog:
    """Read what :func:`write_log` wrote.

    Raises:
        ResultFormatError: the file is missing, truncated, of another version, or of another run.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(HEADER_BYTES)
    except OSError as error:
        raise ResultFormatError(
            f"the call log {path} cannot be read ({error.strerror}); "
            "keep it beside the JSON file it was saved with"
        ) from error
    header = _header(path, head)
    if header["run_id"] != run_id:
        raise ResultFormatError(f"the call log {path} belongs to another run than its JSON file")
    rows = header["rows"]
    wanted = HEADER_BYTES + rows * ROW_BYTES + header["tally_bytes"]
    if size != wanted:
        raise ResultFormatError(
            f"the call log {path} is damaged: {size:,} bytes where "
            f"{wanted:,} are expected for {rows:,} calls"
        )
    with path.open("rb") as file:
        file.seek(HEADER_BYTES)
        columns: dict[str, Any] = {
            name: np.fromfile(file, dtype, rows) for name, dtype in COLUMNS.items()
        }
        try:
            tally = None if header["tally"] is None else _tally(file, header["tally"])
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ResultFormatError(f"the counts in the call log {path} are damaged") from error
    return CallLog(**columns, errors=tuple(errors), tally=tally)


def _header(path: Path, head: bytes) -> dict[str, Any]:
    if not head.startswith(MAGIC) or len(head) < HEADER_BYTES:
        raise ResultFormatError(f"{path} is not a call log of inferload, or it is truncated")
    try:
        header = json.loads(head[len(MAGIC) :].rstrip(b"\0"))
        version = header["version"]
        found = {
            "rows": int(header["rows"]),
            "run_id": str(header["run_id"]),
            "tally": header.get("tally"),
            "tally_bytes": int(header.get("tally_bytes", 0)),
        }
    except (ValueError, KeyError, TypeError) as error:
        raise ResultFormatError(f"the header of the call log {path} is damaged") from error
    if version != VERSION:
        raise ResultFormatError(
            f"the call log {path} has version {version}; this inferload reads version {VERSION}"
        )
    return found


def _described(tally: CallTally) -> dict[str, Any]:
    return {
        "width_ns": tally.width_ns,
        "windows": len(tally.failed),
        "inputs": tally.returned_by_input.shape[1],
        "last_finished_ns": tally.last_finished_ns,
        "sampled_one_in": tally.sampled_one_in,
        "lows": tally.lows,
        "highs": tally.highs,
        "used": {name: int(np.count_nonzero(counts)) for name, counts in tally.counts.items()},
    }


def _arrays(tally: CallTally) -> list[NDArray[Any]]:
    """What stands behind the columns, in this order."""
    arrays: list[NDArray[Any]] = [
        np.ascontiguousarray(tally.returned_by_input, "<i8"),
        np.ascontiguousarray(tally.failed, "<i8"),
    ]
    for name, counts in tally.counts.items():
        flat = counts.reshape(-1)
        used = np.flatnonzero(flat)
        arrays += [used.astype("<i8"), flat[used].astype("<u4")]
        arrays.append(np.ascontiguousarray(tally.sums[name], "<f8"))
    return arrays


def _tally(file: BinaryIO, found: dict[str, Any]) -> CallTally:
    windows, inputs = int(found["windows"]), int(found["inputs"])
    returned = np.fromfile(file, "<i8", windows * inputs).reshape(windows, inputs)
    failed = np.fromfile(file, "<i8", windows)
    counts, sums = {}, {}
    for name, used in found["used"].items():
        flat = np.zeros(windows * BUCKETS, np.uint32)
        places = np.fromfile(file, "<i8", int(used))
        flat[places] = np.fromfile(file, "<u4", int(used))
        counts[name] = flat.reshape(windows, BUCKETS)
        sums[name] = np.fromfile(file, "<f8", windows)
    return CallTally(
        width_ns=int(found["width_ns"]),
        counts=counts,
        sums=sums,
        lows={name: int(value) for name, value in found["lows"].items()},
        highs={name: int(value) for name, value in found["highs"].items()},
        returned_by_input=returned,
        failed=failed,
        last_finished_ns=int(found["last_finished_ns"]),
        sampled_one_in=int(found.get("sampled_one_in", 1)),
    )
