"""Logs that can be found should their processes be killed: their names, and what was counted.

The counts of calls whose rows were given back stand beside the log that has the others.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from inferload.errors import PlanError
from inferload.log.ring import LogFile
from inferload.log.saved import read_log, write_log

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from inferload.log.calls import CallLog
    from inferload.log.failures import CallFailure
    from inferload.log.tally import Tally

_ENDING = ".counts"


def kept_log(
    folder: Path | None, number: tuple[int, int], rows: int | None, *, set_aside: bool
) -> LogFile:
    """The log file of a process and a lane of it, by these numbers, for that many calls.

    It is in the folder under a name. Where there is none, or its disk has no room for the log or
    cannot map files, it is a temporary one without a name.

    Raises:
        PlanError: the disk has no room for it.
    """
    if folder is not None:
        path = folder / f"{number[0]}-{number[1]}.calls"
        try:
            return LogFile(rows, set_aside=set_aside, path=path)
        except PlanError:
            path.unlink(missing_ok=True)
    return LogFile(rows, set_aside=set_aside)


def save_counts(log: Path, tally: Tally, rows: int) -> None:
    """Save the counts of all calls before row ``rows``, in the place of those that there are.

    Where there is no room for them the run goes on all the same, and is told without them should
    it be killed.
    """
    before = _saved(log)
    path = log.with_name(f"{log.stem}.{rows}{_ENDING}")
    whole = path.with_suffix(".new")
    with suppress(OSError):
        write_log(whole, tally.handed_over(()), str(rows))
        whole.replace(path)
        for one in before:
            one.unlink()


def saved_counts(
    log: Path, errors: Sequence[CallFailure], *, open_loop: bool
) -> tuple[CallLog | None, int]:
    """The counts that were saved beside a log, and before which row all calls are in them.

    Raises:
        ResultFormatError: they are damaged.
    """
    found = _saved(log)
    if not found:
        return None, 0
    path = max(found, key=_rows)
    return read_log(path, str(_rows(path)), errors, open_loop=open_loop), _rows(path)


def _saved(log: Path) -> list[Path]:
    return [*log.parent.glob(f"{log.stem}.*{_ENDING}")]


def _rows(path: Path) -> int:
    return int(path.suffixes[-2].removeprefix("."))
