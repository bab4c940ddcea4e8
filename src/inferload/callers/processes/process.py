"""One process with callers, as its starter sees it: its lanes, what it said, how it ended."""

from __future__ import annotations

import os
import re
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inferload.callers.crew import Part, places_of
from inferload.callers.processes import words as say
from inferload.callers.processes.entry import CRASH_FILE
from inferload.files import OWN_FOLDER
from inferload.machine.cgroups import out_of_memory_kills
from inferload.records.figures import Ending

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

    from inferload.callers.crew import PartReport, Preparation
    from inferload.callers.processes.handles import Handle
    from inferload.log.ring import LogFile
    from inferload.plan.arrivals.schedule import Schedule
    from inferload.plan.options import RunOptions
    from inferload.records.spec import RunSpec

_NOT_THE_USERS = (OWN_FOLDER, str(Path(os.__file__).parent), "<")


class CallersProcess:
    """One started process."""

    def __init__(
        self, number: int, process: Handle, connection: Connection, gift: Connection | None
    ) -> None:
        self.number = number
        self._process = process
        self._connection = connection
        self._gift = gift
        self.stage = "started"
        #: What it has said so far.
        self.ready: Preparation | None = None
        #: The optional columns of each of its logs.
        self.columns: Sequence[Sequence[str]] = ()
        self.at_line = False
        self.warmed: tuple[int, int] | None = None
        self._refused = False
        #: Of each of its lanes, at the end.
        self.reports: Sequence[PartReport] = ()
        self.exceptions: Sequence[bytes | None] = ()
        #: Whether it ended without a report, as of the last time it was heard.
        self.died = False

    @property
    def pid(self) -> int:
        """Its number for the system."""
        return self._process.pid or 0

    @property
    def waited_for(self) -> list[Any]:
        """What becomes readable when it says something, or ends."""
        return [self._connection, self._process.sentinel]

    @property
    def exited(self) -> bool:
        """Whether the process is gone; what it said before may be unheard."""
        return self._process.exitcode is not None

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to hear from it."""
        return bool(self.reports)

    @property
    def is_leaving(self) -> bool:
        """Whether it ends by itself: it has reported, or said why it cannot."""
        return self.ended or self._refused

    @property
    def has_failed(self) -> bool:
        """Whether the target raised in it."""
        return any(report.outcome.first_failure is not None for report in self.reports)

    @property
    def spec(self) -> RunSpec:
        """What it is going to run; known once it is prepared."""
        if self.ready is None:
            raise AssertionError("a process is prepared before it is asked for its spec")
        return self.ready.spec

    def show_columns(self, logs: Sequence[LogFile]) -> None:
        """Have its logs read with the optional columns that it has said it writes."""
        for log, columns in zip(logs, self.columns, strict=True):
            if log.optional != columns:
                log.show(columns)

    def tell(self, *message: Any) -> None:
        """Say something to it; one that has ended does not hear it."""
        with suppress(OSError):
            self._connection.send(message)

    def hand(self, content: bytes) -> None:
        """Give it the model."""
        if self._gift is not None:
            with suppress(OSError):
                self._gift.send_bytes(content)
            self._gift.close()

    def heard(self) -> list[tuple[Any, ...]]:
        """What it has said since; what concerns its state is noted here."""
        # the exit code is read first: what was said before the end is there afterwards
        exited, messages = self.exited, self._said()
        if not exited and not messages:
            self._process.join(0.05)  # its connection closed: it is just ending
            exited, messages = self.exited, self._said()
        self.died = exited and not self.reports
        return messages

    def _said(self) -> list[tuple[Any, ...]]:
        messages: list[tuple[Any, ...]] = []
        with suppress(EOFError, OSError):
            while self._connection.poll():
                messages.append(self._connection.recv())
                self._note(messages[-1])
        return messages

    def _note(self, message: tuple[Any, ...]) -> None:
        word, *rest = message
        if word == say.STAGE:
            self.stage = "prepared"
        elif word == say.PREPARED:
            (self.ready,) = rest
            self.columns = () if self.ready is None else self.ready.columns
            self.stage = "warmed up"
        elif word == say.WARMED:
            self.warmed = (rest[0], rest[1])
        elif word == say.READY:
            self.at_line = True
            (self.columns,) = rest
        elif word == say.ERROR:
            self._refused = True
        elif word == say.DONE:
            self.reports, self.exceptions = rest

    def ending(
        self,
        scratch: Path,
        after_s: float | None,
        in_flight: Sequence[tuple[int, int]],
        killed_before: int,
    ) -> Ending:
        """How it ended."""
        code = self._process.exitcode or 0
        name = signal.Signals(-code).name if code < 0 else None
        if name == "SIGKILL" and out_of_memory_kills() > killed_before:
            how = "was killed by the kernel, which was out of memory (SIGKILL),"
        elif name == "SIGKILL":
            how = "was killed by SIGKILL, which somebody sent,"
        elif name is not None:
            how = f"was ended by {name} ({signal.strsignal(-code)})"
        else:
            how = f"left by itself with exit code {code}"
        return Ending(
            how=how.rstrip(","),
            signal=name,
            exit_code=None if name else code,
            after_s=after_s,
            in_flight=tuple(in_flight),
            place=_place(scratch / CRASH_FILE.format(process=self.number)),
        )

    def hint(self) -> str:
        """What may help where it ended before it said anything."""
        if self.stage == "started" and self._process.exitcode == 1:
            return (
                "; a script that starts processes must do so under if __name__ == '__main__', "
                "because each of them imports it"
            )
        return ""

    def end(self, patience_s: float) -> bool:
        """See that it has ended: wait, then kill; whether it had to be killed."""
        if self._gift is not None:
            self._gift.close()
        self._connection.close()  # a process that still listens ends when it hears that
        self._process.join(patience_s)
        if self._process.exitcode is not None:
            return False
        self._process.kill()
        self._process.join()
        return True


def parts_of(
    process: CallersProcess,
    logs: Sequence[LogFile],
    schedules: Sequence[Schedule | None],
    options: RunOptions,
) -> list[Part]:
    """The lanes of a process that is ready, each with its log and its schedule."""
    spec = process.spec
    lanes = zip(logs, schedules, places_of(spec, process.number), strict=True)
    return [
        Part(
            process=process.number,
            pid=process.pid,
            running=RunningLane(process, number, log, place.callers, schedule),
            log=log,
            schedule=schedule,
            queued=options.queued,
            place=place,
            inputs=spec.models[number].inputs if options.lanes else len(spec.inputs),
        )
        for number, (log, schedule, place) in enumerate(lanes)
    ]


class RunningLane:
    """The callers of one lane of a process; what they have claimed is read from their log."""

    def __init__(
        self,
        process: CallersProcess,
        lane: int,
        log: LogFile,
        callers: int,
        schedule: Schedule | None,
    ) -> None:
        self._process = process
        self._lane = lane
        self._log = log
        self._callers = callers
        self._rows = log.rows if schedule is None else schedule.calls
        self._folded = 0
        self._written = 0

    def claimed_rows(self) -> int:
        """How many rows of the log callers have written so far, as far as can be seen."""
        if self._process.reports:
            return self._process.reports[self._lane].outcome.claimed_rows
        end = min(self._rows, self._folded + self._log.room)
        self._written = self._log.written_rows(self._written, self._callers, end)
        return self._written

    def fold_to(self, rows: int) -> None:
        """Rows before this have been read: their places in the log may be written again."""
        self._folded = rows
        self._process.tell(say.FOLD_TO, self._lane, rows)

    def end_at(self, rows: int) -> None:
        """Open loop: start no call from row ``rows`` on; those before have the drain time."""
        self._process.tell(say.END_AT, self._lane, rows)


def _place(crash: Path) -> str | None:
    """The innermost line of the user's own Python in what faulthandler wrote."""
    with suppress(OSError):
        for file, line in re.findall(r'File "(.+?)", line (\d+) in', crash.read_text()):
            if not file.startswith(_NOT_THE_USERS) and f"{os.sep}site-packages{os.sep}" not in file:
                return f"{file}:{line}"
    return None
