"""The call log as a memory-mapped file: what callers write while they run, and what is saved.

A header of 4 KiB, then one column after another, each with room for ``rows`` calls. Callers claim
ranges of rows and write their own rows alone. While they run, times are absolute monotonic
nanoseconds and a row whose ``finished_ns`` is 0 did not finish. The file has no name, and lives as
long as a process has it open, unless it is to be found should all of them be killed.

The file is a ring of ``room`` rows: call i stands in row ``i % room``. A run of more calls than
that is read and counted while it goes on (``tally``), and the places are written again. The first
eight bytes of the header are the number of the first row that was not given back.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from inferload.errors import PlanError
from inferload.log.calls import COLUMNS, OPTIONAL, CallLog
from inferload.units import bytes_text

if TYPE_CHECKING:
    from collections.abc import ItemsView, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from inferload.log.failures import CallFailure

HEADER_BYTES = 4096
# Rooms are whole blocks, so that every column starts on a page.
BLOCK_ROWS = 1024

# log_columns.h has the same, in the same order; it is compared when the library is loaded.
ROW_BYTES = sum(dtype.itemsize for dtype in COLUMNS.values())
# Optional columns have places in every file, and disk space where they are used.
_ALL = {**COLUMNS, **OPTIONAL}
_FILE_ROW_BYTES = sum(dtype.itemsize for dtype in _ALL.values())

# A page fault in a caller costs about 1 us; pages touched beforehand cost set-up time and memory.
PREFAULT_ROWS = 1_800_000
# How far ahead of the callers disk space is set aside where the number of calls is open.
GROWTH_ROWS = 1 << 18
# The most calls that a run keeps raw (360 MB); of a longer one a sample is kept, and counts.
KEPT_CALLS = 10_000_000
ENDLESS = 2**62

_MADV_POPULATE_WRITE = 23  # Linux 5.14; Python does not name it


@dataclass(frozen=True, slots=True, kw_only=True)
class CallInFlight:
    """A call that has started and not finished; times as its caller wrote them."""

    scheduled_ns: int
    started_ns: int
    caller: int
    input: int


class LogFile:
    """A log file that callers write; ``columns`` maps names to arrays of shape ``(room,)``."""

    def __init__(
        self, rows: int | None, *, set_aside: bool = True, path: Path | None = None
    ) -> None:
        """Make a log file for ``rows`` calls, or for an open number of them.

        Disk space for all rows is set aside, or only for the first where ``set_aside`` is false or
        the number is open; callers then do it as they go. ``path``: where the file is found while
        it grows, and if it is left behind; it is a temporary one if that is not given.

        Raises:
            PlanError: the disk has no room for it.
        """
        self.rows = ENDLESS if rows is None else rows
        self.room = -(-min(self.rows, KEPT_CALLS) // BLOCK_ROWS) * BLOCK_ROWS
        self.reserved_rows = 0
        #: The optional columns that are used, in the order of ``OPTIONAL``.
        self.optional: tuple[str, ...] = ()
        size = HEADER_BYTES + self.room * _FILE_ROW_BYTES
        wanted = self.room if rows is not None and set_aside else min(GROWTH_ROWS, self.room)
        self.path, file = path, None
        folder = tempfile.gettempdir() if path is None else str(path.parent)
        try:
            file = (
                tempfile.TemporaryFile(prefix="inferload-", suffix=".calls")  # noqa: SIM115
                if path is None
                else path.open("w+b", buffering=0)
            )
            os.ftruncate(file.fileno(), size)
            self._file: BinaryIO = file
            self.reserve(wanted)
            self._map()
        except (OSError, OverflowError, ValueError) as error:
            if file is not None:
                file.close()
            reason = getattr(error, "strerror", None) or error
            raise PlanError(
                f"no room for the call log in {folder}: {wanted:,} calls take "
                f"{bytes_text(wanted * ROW_BYTES)} ({reason}); ask for fewer calls, or set "
                "TMPDIR to a folder with room"
            ) from error
        self._prefault()

    @classmethod
    def opened(cls, fileno: int, rows: int, room: int, reserved_rows: int) -> LogFile:
        """The log file that another process made, of which this one has a descriptor."""
        log = cls.__new__(cls)
        log.rows, log.room, log.reserved_rows = rows, room, reserved_rows
        log.optional, log.path = (), None
        log._file = os.fdopen(fileno, "r+b", buffering=0)  # noqa: SLF001 - it is this class's own
        log._map()  # noqa: SLF001
        log._prefault()  # noqa: SLF001
        return log

    @classmethod
    def left_behind(cls, path: Path, rows: int, room: int, optional: Sequence[str]) -> LogFile:
        """The log file of callers that have been killed, which stays as it is.

        Raises:
            OSError: it cannot be read.
            ValueError: it is shorter than it was made.
        """
        log = cls.__new__(cls)
        log.rows, log.room, log.reserved_rows = rows, room, room
        log.optional, log.path = tuple(optional), path
        log._file = path.open("rb", buffering=0)  # noqa: SLF001 - it is this class's own
        log._map(mmap.ACCESS_COPY)  # noqa: SLF001
        return log

    @property
    def folded_rows(self) -> int:
        """Before which row all places have been given back."""
        # read: a page of a mapped file that nobody wrote asks for room on a disk that may be full
        return int(np.frombuffer(os.pread(self.fileno, 8, 0), np.int64)[0])

    def note_folded(self, rows: int) -> None:
        """Note that all places before this row have been given back, before callers are told."""
        np.frombuffer(self.buffer, np.int64, 1)[0] = rows

    def _map(self, access: int = mmap.ACCESS_WRITE) -> None:
        size = HEADER_BYTES + self.room * _FILE_ROW_BYTES
        self.buffer = mmap.mmap(self.fileno, size, access=access)
        self.columns = {
            name: np.frombuffer(self.buffer, dtype, self.room, self._offset(name))
            for name, dtype in self._dtypes().items()
        }

    def use(self, columns: Sequence[str]) -> None:
        """Have these optional columns as well; before any caller writes.

        Raises:
            PlanError: the disk has no room for them.
        """
        added = [name for name in columns if name not in self.optional]
        try:
            self._reserve(added, 0, self.reserved_rows)
        except OSError as error:
            where = "set TMPDIR to" if self.path is None else "save it in"
            raise PlanError(
                f"no room for {', '.join(added)} of calls in the call log ({error.strerror}): ask "
                f"for fewer calls, or {where} a folder with room"
            ) from error
        self.show([*self.optional, *added])

    def show(self, columns: Sequence[str]) -> None:
        """Read the optional columns that another process uses."""
        self.optional = tuple(name for name in OPTIONAL if name in columns)
        if columns:
            self._map()
            self._prefault(columns)

    @property
    def fileno(self) -> int:
        """The descriptor of the file."""
        return self._file.fileno()

    @property
    def reserved_bytes(self) -> int:
        """The disk space set aside so far."""
        return self.reserved_rows * sum(dtype.itemsize for dtype in self._dtypes().values())

    def _dtypes(self) -> dict[str, np.dtype[Any]]:
        return {**COLUMNS, **{name: OPTIONAL[name] for name in self.optional}}

    def _offset(self, column: str) -> int:
        before = [*_ALL][: [*_ALL].index(column)]
        return HEADER_BYTES + self.room * sum(_ALL[name].itemsize for name in before)

    def reserve(self, rows: int) -> None:
        """Set aside disk space for the first ``rows`` rows, so that writing them cannot fail.

        Raises:
            OSError: the disk is full.
        """
        rows = min(rows, self.room)
        if rows <= self.reserved_rows:
            return
        self._reserve([*self._dtypes()], self.reserved_rows, rows)
        self.reserved_rows = rows

    def _reserve(self, columns: Sequence[str], begin: int, end: int) -> None:
        if not hasattr(os, "posix_fallocate") or begin >= end:
            return
        for name in columns:
            width = _ALL[name].itemsize
            os.posix_fallocate(
                self.fileno, self._offset(name) + begin * width, (end - begin) * width
            )

    def _prefault(self, columns: Sequence[str] = tuple(COLUMNS)) -> None:
        rows = min(self.reserved_rows, PREFAULT_ROWS) // BLOCK_ROWS * BLOCK_ROWS
        try:
            for name in columns:
                self.buffer.madvise(
                    _MADV_POPULATE_WRITE, self._offset(name), rows * _ALL[name].itemsize
                )
        except (OSError, AttributeError, ValueError):
            return  # an older kernel: the callers pay for their page faults

    def rows_between(self, begin: int, end: int) -> dict[str, NDArray[Any]]:
        """All columns of rows ``[begin, end)``: views, or copies where the range wraps."""
        first, after = begin % self.room, (end - 1) % self.room + 1
        if begin >= end or first < after:
            return {name: column[first : first + end - begin] for name, column in self._all()}
        return {name: np.concatenate([c[first:], c[:after]]) for name, c in self._all()}

    def _all(self) -> ItemsView[str, NDArray[Any]]:
        return self.columns.items()

    def finished_calls(
        self, from_row: int, claimed_rows: int, until_ns: int = 2**63 - 1
    ) -> tuple[int, int]:
        """Count the calls among rows ``[from_row, claimed_rows)`` that had finished at a time.

        Returns the count, and the row before which all calls have finished, so that a reader who
        polls can go on from there. ``from_row`` is such a row, or 0.
        """
        finished, count, all_before = self.columns["finished_ns"], 0, from_row
        for row in range(from_row, claimed_rows, BLOCK_ROWS):
            place = row % self.room
            rows = min(BLOCK_ROWS, claimed_rows - row)
            times = finished[place : place + rows].copy()  # it changes meanwhile
            done = int(np.count_nonzero(times))
            count += done - int(np.count_nonzero(times > until_ns))
            if done == BLOCK_ROWS and all_before == row:
                all_before = row + BLOCK_ROWS
        return count, all_before

    def forget(self, begin: int, end: int) -> None:
        """Make rows ``[begin, end)``, which do not wrap, look as if they had never been written."""
        place = begin % self.room
        for name in ("scheduled_ns", "started_ns", "finished_ns", *self.optional):
            self.columns[name][place : place + end - begin] = 0

    def written_rows(self, from_row: int, callers: int, end: int) -> int:
        """Before which row all rows that callers have written lie, as far as a reader can see.

        ``from_row`` is a row before it, ``end`` one that they cannot have passed. Each caller may
        have claimed a block of which it has written nothing yet.
        """
        written = from_row
        while written < end:
            rows = self.rows_between(written, min(written + (callers + 1) * BLOCK_ROWS, end))
            used = np.flatnonzero(rows["started_ns"] != 0)  # compared first: it changes meanwhile
            if not len(used):
                break
            written += int(used[-1]) + 1
        return written

    def rows_left(self, callers: int) -> int:
        """As ``written_rows``, of a log that was left behind and is no ring yet: it is read."""
        width, column = COLUMNS["started_ns"].itemsize, self._offset("started_ns")
        left, ahead = 0, (callers + 1) * BLOCK_ROWS
        while left < self.room:
            content = os.pread(
                self.fileno, min(ahead, self.room - left) * width, column + left * width
            )
            used = np.flatnonzero(np.frombuffer(content, COLUMNS["started_ns"]))
            if not len(used):
                break
            left += int(used[-1]) + 1
        return left

    def calls_in_flight(self, from_row: int, claimed_rows: int) -> list[CallInFlight]:
        """The calls of rows ``[from_row, claimed_rows)`` that have started and not finished."""
        rows = self.rows_between(from_row, max(claimed_rows, from_row))
        places = np.flatnonzero((rows["started_ns"] != 0) & (rows["finished_ns"] == 0))
        return [
            CallInFlight(
                # a Python caller in a closed loop fills this column in afterwards
                scheduled_ns=int(rows["scheduled_ns"][place] or rows["started_ns"][place]),
                started_ns=int(rows["started_ns"][place]),
                caller=int(rows["caller"][place]),
                input=int(rows["input"][place]),
            )
            for place in places
        ]

    def hand_over(
        self,
        start_ns: int,
        from_row: int,
        claimed_rows: int,
        errors: Sequence[CallFailure],
        *,
        open_loop: bool = False,
    ) -> CallLog:
        """The finished calls of rows ``[from_row, claimed_rows)``, timed from ``start_ns``.

        The arrays are the mapped file itself where every claimed call finished: nothing is copied,
        but the times of a file that has a name; the others are changed in place, and no caller may
        write any more.
        """
        columns: dict[str, Any] = self.rows_between(from_row, claimed_rows)
        finished = columns["finished_ns"] != 0
        if not finished.all():
            columns = {name: column[finished] for name, column in columns.items()}
            # a Python caller that was given up had no time to fill this column in
            unset = columns["scheduled_ns"] == 0
            columns["scheduled_ns"][unset] = columns["started_ns"][unset]
        for name in ("scheduled_ns", "started_ns", "finished_ns"):
            if self.path is None:
                columns[name] -= start_ns
            else:  # which stays as callers wrote it, until the result is saved
                columns[name] = columns[name] - start_ns
        self._let_go_of_pages()
        return CallLog.of(columns, errors, open_loop=open_loop)

    def _let_go_of_pages(self) -> None:
        """Have no page count as this process's memory until it is read again; the file stays."""
        if hasattr(mmap, "MADV_DONTNEED") and self.path is None:
            self.buffer.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Let go of the file. Its space is given back when the last array of it is gone."""
        self._file.close()
