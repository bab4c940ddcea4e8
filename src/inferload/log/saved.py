"""A finished log as a file: a header, one column after another, and the tally of a long run.

The header is 4 KiB: a line of magic, then JSON. Columns follow as little-endian arrays, in the
order of ``calls.COLUMNS``, then the optional ones that the header names as its stages. Of a tally
only the cells that hold calls are written: how far each is from the one before, and its count, both
as the smallest unsigned integers that hold them
(version 1 had the cells themselves, of 8 bytes; versions 1 and 2 had no stages, 1 to 3 not the
time that failed calls took, 1 to 4 no batches, 1 to 5 no pieces, 1 to 6 no checksum). What is
known of single pieces follows, and at the end the CRC-32 of all bytes before it (little-endian).
"""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from inferload.errors import ResultFormatError
from inferload.log.buckets import BUCKETS, WindowCounts
from inferload.log.calls import COLUMNS, OPTIONAL, CallLog, CallTally
from inferload.log.piece_times import CALLS_DTYPE, PieceTimes
from inferload.log.ring import HEADER_BYTES
from inferload.log.window_counter import OF_EVERY_CALL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from inferload.log.failures import CallFailure

_DTYPES = {**COLUMNS, **OPTIONAL}
MAGIC = b"inferload calls\n"
VERSION = 7
_READ = {1, 2, 3, 4, 5, 6, VERSION}
_CHECKSUM = np.dtype("<u4")


def write_log(path: Path, log: CallLog, run_id: str) -> None:
    """Write a finished log to ``path``.

    Raises:
        OSError: the file could not be written.
    """
    with path.open("wb") as file:
        for part in log_parts(log, run_id):
            file.write(part)


def log_parts(log: CallLog, run_id: str) -> Iterator[bytes | memoryview]:
    """The bytes of a log, one part after another, and the checksum of them all."""
    checksum = 0
    for part in _parts(log, run_id):
        checksum = zlib.crc32(part, checksum)
        yield part
    yield np.array([checksum], _CHECKSUM).tobytes()


def _parts(log: CallLog, run_id: str) -> Iterator[bytes | memoryview]:
    arrays = [] if log.tally is None else _arrays(log.tally)
    times = log.piece_times
    header = {
        "version": VERSION,
        "rows": len(log),
        "stages": [*log.stages, *log.batches, *log.answers],
        "run_id": run_id,
        "endian": "little",
        "tally": None if log.tally is None else _described(log.tally),
        "tally_bytes": sum(array.nbytes for array in arrays),
        "pieces": None if times is None else _told(times),
    }
    yield (MAGIC + json.dumps(header).encode()).ljust(HEADER_BYTES, b"\0")
    for name, column in log.columns().items():
        yield np.ascontiguousarray(column, _DTYPES[name]).data.cast("B")
    for array in [*arrays, *([] if times is None else [times.calls, times.times_ns])]:
        yield np.ascontiguousarray(array).view(np.uint8).data


def read_log(path: Path, run_id: str, errors: Sequence[CallFailure], *, open_loop: bool) -> CallLog:
    """Read what :func:`write_log` wrote; what was asked for says whether it is an open loop's.

    Raises:
        ResultFormatError: the file is missing, truncated, of another version, or of another run.
    """
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise ResultFormatError(
            f"the call log {path} cannot be read ({error.strerror}); "
            "keep it beside the JSON file it was saved with"
        ) from error
    return log_of_bytes(content, str(path), run_id, errors, open_loop=open_loop)


def log_of_bytes(
    content: NDArray[np.uint8],
    name: str,
    run_id: str,
    errors: Sequence[CallFailure],
    *,
    open_loop: bool,
) -> CallLog:
    """The log whose bytes, of shape ``(bytes,)``, these are; its columns are views of them.

    Raises:
        ResultFormatError: they are truncated, of another version, or of another run than ``name``.
    """
    header = _header(name, content[:HEADER_BYTES].tobytes())
    if header["run_id"] != run_id:
        raise ResultFormatError(f"the call log {name} belongs to another run than its JSON file")
    rows = header["rows"]
    dtypes = {name: _DTYPES[name] for name in (*COLUMNS, *header["stages"])}
    row_bytes = sum(dtype.itemsize for dtype in dtypes.values())
    wanted = HEADER_BYTES + rows * row_bytes + header["tally_bytes"] + _bytes_of(header["pieces"])
    wanted += header["checksum_bytes"]
    if len(content) != wanted:
        raise ResultFormatError(
            f"the call log {name} is damaged: {len(content):,} bytes where "
            f"{wanted:,} are expected for {rows:,} calls"
        )
    if header["checksum_bytes"]:
        content, checksum = content[: -_CHECKSUM.itemsize], content[-_CHECKSUM.itemsize :]
        if zlib.crc32(content.data) != checksum.view(_CHECKSUM)[0]:
            raise ResultFormatError(
                f"the call log {name} is damaged: its checksum is not that of what was saved, so "
                "that some value in it has changed since; it cannot be mended, run again"
            )
    reader = _Reader(content, HEADER_BYTES)
    columns = {column: reader.array(dtype, rows) for column, dtype in dtypes.items()}
    try:
        tally = None if header["tally"] is None else _tally(reader, header["tally"])
        times = None if header["pieces"] is None else _piece_times(reader, header["pieces"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ResultFormatError(f"the counts in the call log {name} are damaged") from error
    log = CallLog.of(columns, errors, tally, open_loop=open_loop)
    return replace(log, piece_times=times)


class _Reader:
    """Takes one array after another out of some bytes."""

    def __init__(self, content: NDArray[np.uint8], place: int) -> None:
        self._content = content
        self._place = place

    def array(self, dtype: Any, count: int) -> NDArray[Any]:
        """The next array of so many elements.

        Raises:
            ValueError: there are not so many.
        """
        begin, self._place = self._place, self._place + count * np.dtype(dtype).itemsize
        if not begin <= self._place <= len(self._content):
            raise ValueError(f"{count} elements are not there")
        return self._content[begin : self._place].view(dtype)


def _header(name: str, head: bytes) -> dict[str, Any]:
    if not head.startswith(MAGIC) or len(head) < HEADER_BYTES:
        raise ResultFormatError(f"{name} is not a call log of inferload, or it is truncated")
    try:
        header = json.loads(head[len(MAGIC) :].rstrip(b"\0"))
        version = header["version"]
        found = {
            "rows": int(header["rows"]),
            "run_id": str(header["run_id"]),
            "tally": header.get("tally"),
            "tally_bytes": int(header.get("tally_bytes", 0)),
            "stages": [name for name in OPTIONAL if name in header.get("stages", ())],
            "pieces": _pieces_told(header.get("pieces")),
            "checksum_bytes": _CHECKSUM.itemsize if version == VERSION else 0,
        }
    except (ValueError, KeyError, TypeError) as error:
        raise ResultFormatError(f"the header of the call log {name} is damaged") from error
    if version not in _READ:
        raise ResultFormatError(
            f"the call log {name} has version {version}; this inferload reads version {VERSION}"
        )
    return found


def _told(times: PieceTimes) -> dict[str, Any]:
    """What the header says of single pieces."""
    return {"calls": len(times.calls), "times": len(times.times_ns), "share": times.share}


def _pieces_told(found: Any) -> dict[str, Any] | None:
    """What a header says of single pieces, looked through."""
    if found is None:
        return None
    return {
        "calls": int(found["calls"]), "times": int(found["times"]), "share": float(found["share"])
    }  # fmt: skip


def _bytes_of(told: dict[str, Any] | None) -> int:
    if told is None:
        return 0
    return int(told["calls"] * CALLS_DTYPE.itemsize + told["times"] * 8)


def _piece_times(reader: _Reader, told: dict[str, Any]) -> PieceTimes:
    return PieceTimes(
        calls=reader.array(CALLS_DTYPE, told["calls"]),
        times_ns=reader.array("<i8", told["times"]),
        share=told["share"],
    )


def _integers(values: NDArray[Any]) -> str:
    """The type of the smallest unsigned integers that hold these."""
    largest = int(values.max(initial=0))
    return next(f"<u{size}" for size in (1, 2, 4, 8) if largest < 256**size)


def _steps(cells: NDArray[Any]) -> NDArray[Any]:
    """How far each cell is from the one before, the first from 0."""
    return np.diff(cells, prepend=0)


def _described(tally: CallTally) -> dict[str, Any]:
    return {
        "width_ns": tally.width_ns,
        "windows": len(tally.failed),
        "inputs": tally.returned_by_input.shape[1],
        "last_finished_ns": tally.last_finished_ns,
        "sampled_one_in": tally.sampled_one_in,
        "failed_ns": True,
        "first_started_ns": tally.first_started_ns,
        "lows": tally.lows,
        "highs": tally.highs,
        "types": {
            name: [_integers(_steps(counts.cells)), _integers(counts.counts)]
            for name, counts in tally.counts.items()
        },
        "used": {name: len(counts.cells) for name, counts in tally.counts.items()},
    }


def _arrays(tally: CallTally) -> list[NDArray[Any]]:
    """What stands behind the columns, in this order."""
    arrays: list[NDArray[Any]] = [
        np.ascontiguousarray(tally.returned_by_input, "<i8"),
        np.ascontiguousarray(tally.failed, "<i8"),
        np.ascontiguousarray(tally.failed_ns, "<f8"),
    ]
    for name, counts in tally.counts.items():
        steps = _steps(counts.cells)
        arrays += [
            steps.astype(_integers(steps)),
            counts.counts.astype(_integers(counts.counts)),
            np.ascontiguousarray(tally.sums[name], "<f8"),
        ]
    return arrays


def _tally(reader: _Reader, found: dict[str, Any]) -> CallTally:
    windows, inputs = int(found["windows"]), int(found["inputs"])
    returned = reader.array("<i8", windows * inputs).reshape(windows, inputs)
    failed = reader.array("<i8", windows)
    failed_ns = reader.array("<f8", windows) if found.get("failed_ns") else np.zeros(windows)
    counts, sums = {}, {}
    for name, used in found["used"].items():
        if "types" in found:
            of_steps, of_counts = found["types"][name]
            cells = np.cumsum(reader.array(of_steps, int(used)), dtype=np.int64)
        else:
            of_counts, cells = "<u4", reader.array("<i8", int(used))
        found_counts = reader.array(of_counts, int(used)).astype(np.int64)
        if len(cells) and not (
            cells[0] >= 0 and cells[-1] < windows * BUCKETS and (np.diff(cells) > 0).all()
        ):
            raise ValueError("counts are not where they can be")
        # a stage is counted of calls that ran on a device
        if name in OF_EVERY_CALL and int(found_counts.sum()) != int(returned.sum()):
            raise ValueError("not every call that returned is counted")
        counts[name] = WindowCounts(windows, cells, found_counts)
        sums[name] = reader.array("<f8", windows)
    return CallTally(
        width_ns=int(found["width_ns"]),
        counts=counts,
        sums=sums,
        lows={name: int(value) for name, value in found["lows"].items()},
        highs={name: int(value) for name, value in found["highs"].items()},
        returned_by_input=returned,
        failed=failed,
        failed_ns=failed_ns,
        last_finished_ns=int(found["last_finished_ns"]),
        first_started_ns=int(found.get("first_started_ns", 0)),
        sampled_one_in=int(found.get("sampled_one_in", 1)),
    )
