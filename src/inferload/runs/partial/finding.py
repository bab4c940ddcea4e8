"""The result of a run whose processes were all killed, from what stands in its folder."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from pydantic import ValidationError

from inferload.callers.crew import Part, PartReport, merged_parts
from inferload.callers.processes.lost import cut_off
from inferload.errors import PlanError, ResultFormatError
from inferload.files import is_file, is_folder, is_there
from inferload.log.failures import CallFailure
from inferload.log.kept import saved_counts
from inferload.log.merge import LogPlace, merged
from inferload.log.ring import LogFile
from inferload.machine.disturbances import Disturbances
from inferload.machine.scratch import runs
from inferload.plan.arrivals.schedule import Schedule
from inferload.records.figures import RunWarning
from inferload.runs.execution import Execution, ProcessRecord
from inferload.runs.partial.keeping import ADAPTER, OWNER, RUN, SEEN, START, times_path
from inferload.runs.result import result_of
from inferload.stats.process_calls import CallsOfLog
from inferload.units import NS_PER_S, count_text, duration_text

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from inferload.log.calls import CallLog
    from inferload.records.result import RunResult
    from inferload.runs.partial.keeping import KeptPart, KeptRun

#: What is said of calls that failed: their words were in the processes.
_UNKNOWN = CallFailure(type="Unknown", message="what it was went with the process that was killed")


def is_partial(path: Path) -> bool:
    """Whether it is the folder of a run that was not saved."""
    return is_folder(path) and is_file(path / OWNER)


def owner_of(folder: Path) -> int | None:
    """The process whose run it is, if that still runs.

    Raises:
        ResultFormatError: the folder is damaged.
    """
    try:
        pid, started = map(int, (folder / OWNER).read_text(encoding="ascii").split())
    except (OSError, ValueError) as error:
        raise ResultFormatError(
            f"{folder} is no run that was left behind ({error}): remove it, or save elsewhere"
        ) from error
    return pid if runs(pid, started) else None


def found_in(folder: Path) -> RunResult:
    """What a run left behind that was killed with all of its processes; nothing in it is changed.

    All calls that had finished are in it. What else processes would have told of them is not: the
    words of errors, outputs that were kept, memory, devices.

    Raises:
        PlanError: the run goes on.
        ResultFormatError: the folder is damaged, or no call was measured yet.
    """
    owner = owner_of(folder)
    if owner is not None:
        raise PlanError(
            f"{folder} is of a run that goes on (process {owner}): wait for its end, or end it"
        )
    return result_in(folder)


def result_in(folder: Path) -> RunResult:
    """As ``found_in``, where nobody but this process has the folder.

    Raises:
        ResultFormatError: it is damaged, or no call was measured yet.
    """
    try:
        kept = _kept(folder)
        start_ns = int((folder / START).read_text(encoding="ascii"))
        read = [_read(folder, one, start_ns) for one in kept.parts]
    except ResultFormatError:
        raise
    except FileNotFoundError as error:
        raise ResultFormatError(
            f"{folder} is of a run that was killed before any call was measured, or whose log its "
            f"disk could not hold ({error.filename} is not there): remove it, and run again"
        ) from error
    except (OSError, ValueError) as error:
        raise ResultFormatError(f"{folder} is damaged: {error}") from error
    return result_of(_execution(kept, read, _seen_ns(folder, start_ns)))


def _seen_ns(folder: Path, start_ns: int) -> int:
    """Until when callers were seen to be there, from the start line; 0 if nobody looked."""
    try:
        return int.from_bytes((folder / SEEN).read_bytes()[:8], "little") - start_ns
    except OSError:
        return 0


def _kept(folder: Path) -> KeptRun:
    path = folder / RUN
    try:
        if is_there(path) and not is_file(path):
            raise ResultFormatError(f"{path} is no file")
        kept = ADAPTER.validate_json(path.read_bytes())
    except ValidationError as error:
        raise ResultFormatError(
            f"{path} is damaged, or another version's: {str(error).splitlines()[0]}"
        ) from error
    for one in kept.parts:
        if not (re.fullmatch(r"\d+-\d+\.calls", one.log) and one.room > 0 and one.rows > 0):
            raise ResultFormatError(
                f"{path} is damaged: no log is {one.log!r} with {one.room:,} places for "
                f"{one.rows:,} calls"
            )
    return kept


class _Read:
    """The log of one part, as far as it was written."""

    def __init__(
        self, part: Part, log: CallLog, *, begun_ns: list[int], missing: int, damaged: int
    ) -> None:
        self.part, self.log = part, log
        #: When each call was begun that was in flight, from the start line.
        self.begun_ns = begun_ns
        #: How many calls were not counted on the disk, and how many are in rows that are damaged.
        self.missing, self.damaged = missing, damaged


def _read(folder: Path, kept: KeptPart, start_ns: int) -> _Read:
    path = folder / kept.log
    file = LogFile.left_behind(path, kept.rows, kept.room, kept.columns)
    given_back = file.folded_rows
    errors = (_UNKNOWN,)
    try:
        counts, counted = saved_counts(path, errors, open_loop=kept.queued)
    except ResultFormatError:  # what they counted is missing; the rows have the calls since
        counts, counted = None, 0
    begin = max(counted, given_back)
    # the places before have rows that are counted already
    end = min(given_back + kept.room, kept.rows)
    if begin:
        claimed = file.written_rows(begin, kept.place.callers, end)
    else:
        claimed = file.rows_left(kept.place.callers)
    begun_ns = [one.started_ns - start_ns for one in file.calls_in_flight(begin, claimed)]
    log = file.hand_over(start_ns, begin, claimed, errors, open_loop=kept.queued)
    np.minimum(log.error, 0, out=log.error)
    well = _can_be(log, kept)
    damaged = len(log) - int(well.sum())
    if damaged:
        log = log.rows(np.flatnonzero(well))
    file.close()
    if counts is not None:
        own = LogPlace(callers=kept.place.callers)
        of_counts = replace(counts, error=np.minimum(counts.error, 0))
        log = merged(
            [(of_counts, own), (log, own)], [own.callers], open_loop=kept.queued, inputs=kept.inputs
        )
    if not log.calls_failed:
        log = replace(log, errors=())
    part = Part(
        process=kept.process,
        pid=0,
        running=cast("Any", None),
        log=file,
        schedule=_schedule(path, kept),
        queued=kept.queued,
        place=kept.place,
        inputs=kept.inputs,
    )
    missing = max(given_back - counted, 0)
    return _Read(part, log, begun_ns=begun_ns, missing=missing, damaged=damaged)


def _can_be(log: CallLog, kept: KeptPart) -> NDArray[np.bool_]:
    """Which rows speak of callers, inputs and times that can be."""
    found: NDArray[np.bool_] = (
        (log.caller >= 0)
        & (log.caller < kept.place.callers)
        & (log.input >= 0)
        & (log.input < kept.inputs)
        & (log.error >= -1)
        & (log.scheduled_ns <= log.started_ns)
        & (log.started_ns <= log.finished_ns)
    )
    return found


def _schedule(log: Path, kept: KeptPart) -> Schedule | None:
    if kept.calls is None:
        return None
    return Schedule(
        times_ns=np.fromfile(times_path(log), np.int64),
        period_ns=kept.period_ns,
        calls=kept.calls,
        span_ns=kept.span_ns,
    )


def _execution(kept: KeptRun, read: list[_Read], seen_ns: int) -> Execution:
    parts, logs = [one.part for one in read], [one.log for one in read]
    last_ns = max([seen_ns, *map(_last_ns, logs)])
    schedules = [part.schedule for part in parts if part.schedule is not None]
    processes = []
    for number, ready in enumerate(kept.ready):
        own = [one for one in read if one.part.process == number]
        log = merged_parts([one.part for one in own], [one.log for one in own])
        processes.append(
            ProcessRecord(
                number=number,
                ready=ready,
                reports=[PartReport(outcome=cut_off(len(one.log), None)) for one in own],
                calls=CallsOfLog(log),
                memory=None,
            )
        )
    return Execution(
        processes=processes,
        log=merged_parts(parts, logs),
        open_s=kept.open_s,
        warnings=[_killed(read, last_ns)],
        abandoned=True,
        due_calls=sum(one.due_by(last_ns) for one in schedules),
        due_s=last_ns / NS_PER_S if schedules else None,
        stopped_s=last_ns / NS_PER_S,
        looks=[[]],
        hung=[],
        never_ready=False,
        nursery_pss_bytes=None,
        disturbances=Disturbances(),
        signals=("SIGKILL",),
    )


def _last_ns(log: CallLog) -> int:
    """When the last call of a log finished, as far as its rows tell."""
    return int(log.finished_ns.max(initial=0))


def _killed(read: list[_Read], last_ns: int) -> RunWarning:
    begun_ns = [at_ns for one in read for at_ns in one.begun_ns]
    missing, damaged = sum(one.missing for one in read), sum(one.damaged for one in read)
    message = "the run was killed before it was saved: these are the calls that had finished"
    if begun_ns:
        longest = duration_text(max(last_ns - min(begun_ns), 0) / NS_PER_S)
        message += (
            f"; {count_text(len(begun_ns), 'call')} in flight went with it"
            f"{', for ' if len(begun_ns) == 1 else ', the longest for '}{longest} by then"
        )
    if missing:
        message += f"; {count_text(missing, 'call')} could not be saved while it went on"
    if damaged:
        message += f"; {count_text(damaged, 'call')} left out, whose rows are damaged"
    return RunWarning(
        code="killed",
        message=message,
        hint="words of errors, memory, devices and verified outputs went with its processes",
    )
