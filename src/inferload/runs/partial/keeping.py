"""What stands beside the logs of a run, so that they can be told of without its processes."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from inferload.callers.crew import Part, Preparation  # noqa: TC001 - pydantic reads it
from inferload.files import is_there, json_text
from inferload.log.merge import LogPlace  # noqa: TC001
from inferload.machine.scratch import started_at
from inferload.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RUN, START, OWNER, SEEN = "run.json", "start", "owner", "seen"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptPart:
    """The callers of one lane of one process; the fields are those of ``Part`` and ``LogFile``.

    ``log``: the name of the file. ``calls``, ``period_ns`` and ``span_ns`` are those of a schedule,
    whose times stand beside the log.
    """

    process: int
    log: str
    rows: int
    room: int
    columns: tuple[str, ...]
    place: LogPlace
    inputs: int
    queued: bool
    calls: int | None = None
    period_ns: int = 0
    span_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRun:
    """A run under way: its processes as they were prepared, and their parts."""

    version: str
    ready: tuple[Preparation, ...]
    parts: tuple[KeptPart, ...]
    open_s: float


ADAPTER = TypeAdapter(KeptRun)


def claim(folder: Path) -> None:
    """Make the folder of a run, by its own process; it has an owner from the first moment on.

    Raises:
        OSError: it is there, or cannot be made.
    """
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        (made / OWNER).write_text(_own_words(), encoding="ascii")
        made.rename(folder)
    except OSError:
        shutil.rmtree(made, ignore_errors=True)
        raise


class Taken:
    """The folder of a killed run while this process makes a result of it."""

    def __init__(self, folder: Path, owner: str) -> None:
        self.folder, self._owner = folder, owner

    def move_to(self, path: Path) -> None:
        """Leave it there, as that of the run that was killed."""
        (self.folder / OWNER).write_text(self._owner, encoding="ascii")
        self.folder.rename(path)
        self.folder = path

    def remove(self) -> None:
        """What is in it is saved, or was nothing."""
        shutil.rmtree(self.folder)


@contextmanager
def taken_over(left: Path, name: Path) -> Iterator[Taken | None]:
    """Have the folder of a killed run for oneself, under another name; ``None``: another one has.

    It is left where it was if the block does not end well, and is taken by the next start should
    this process be killed.
    """
    try:
        if left != name:
            left.rename(name)
        owner = (name / OWNER).read_text(encoding="ascii")
        (name / OWNER).write_text(_own_words(), encoding="ascii")
    except FileNotFoundError:
        yield None
        return
    taken = Taken(name, owner)
    try:
        yield taken
    except BaseException:
        if is_there(name) and not is_there(left):
            taken.move_to(left)
        raise


def is_ours(folder: Path) -> bool:
    """Whether the folder is of a run of this process."""
    with suppress(OSError):
        return (folder / OWNER).read_text(encoding="ascii") == _own_words()
    return False


def _own_words() -> str:
    return f"{os.getpid()} {started_at(os.getpid()) or 0}"


def was_measured(folder: Path) -> bool:
    """Whether the line was opened."""
    return is_there(folder / START)


def times_path(log: Path) -> Path:
    """Where the times of a schedule stand beside a log."""
    return log.with_suffix(".due")


def keep(
    folder: Path | None, ready: Sequence[Preparation], parts: Sequence[Part], open_s: float
) -> None:
    """Note what stands at the start line, before it is opened, if the logs are in a folder.

    Raises:
        OSError: there is no room for it.
    """
    if folder is None or any(part.log.path is None for part in parts):
        return
    kept = KeptRun(
        version=__version__,
        ready=tuple(ready),
        parts=tuple(_kept(part) for part in parts),
        open_s=open_s,
    )
    text = json_text(partial(ADAPTER.dump_json, kept), partial(ADAPTER.dump_python, kept))
    (folder / RUN).write_text(text, encoding="utf-8")
    for part in parts:
        if part.schedule is not None and part.log.path is not None:
            part.schedule.times_ns.tofile(times_path(part.log.path))


def keep_start(folder: Path | None, start_ns: int) -> None:
    """Note when the line was opened, by the clock of the callers."""
    if folder is not None:
        (folder / START).write_text(str(start_ns), encoding="ascii")


def keep_seen(folder: Path | None) -> None:
    """Note that callers still call, by their clock: what is due until then was due to be made."""
    if folder is None:
        return
    with suppress(OSError):
        file = os.open(folder / SEEN, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(file, time.monotonic_ns().to_bytes(8, "little"), 0)
        finally:
            os.close(file)


def _kept(part: Part) -> KeptPart:
    log, schedule = part.log, part.schedule
    if log.path is None:
        raise AssertionError("the logs of a run that is kept have names")
    of_schedule = {}
    if schedule is not None:
        of_schedule = {
            "calls": schedule.calls, "period_ns": schedule.period_ns, "span_ns": schedule.span_ns
        }  # fmt: skip
    return KeptPart(
        process=part.process,
        log=log.path.name,
        rows=log.rows,
        room=log.room,
        columns=log.optional,
        place=part.place,
        inputs=part.inputs,
        queued=part.queued,
        **of_schedule,
    )
