"""The result of a run whose processes were all killed, from what stands in its folder."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from pydantic import ValidationError

from inferload.callers.crew import Part, PartReport, merged_parts
from inferload.callers.processes.lost import cut_off
from inferload.errors import PlanError, ResultFormatError
from inferload.files import is_file, is_folder
from inferload.log.failures import CallFailure
from inferload.log.kept import saved_counts
from inferload.log.merge import LogPlace, merged
from inferload.log.ring import LogFile
from inferload.machine.disturbances import Disturbances
from inferload.machine.scratch import runs
from inferload.plan.arrivals.schedule import Schedule
from inferload.records.figures import RunWarning
from inferload.runs.execution import Execution, ProcessRecord
from inferload.runs.partial.keeping import ADAPTER, OWNER, RUN, START, times_path
from inferload.runs.result import result_of
from inferload.stats.process_calls import CallsOfLog
from inferload.units import NS_PER_S, count_text

if TYPE_CHECKING:
    from pathlib import Path

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
    try:
        kept = _kept(folder)
        start_ns = int((folder / START).read_text(encoding="ascii"))
        read = [_read(folder, one, start_ns) for one in kept.parts]
    except FileNotFoundError as error:
        raise ResultFormatError(
            f"{folder} is of a run that was killed before any call was measured, or whose log its "
            f"disk could not hold ({error.filename} is not there): remove it, and run again"
        ) from error
    except (OSError, ValueError) as error:
        raise ResultFormatError(f"{folder} is damaged: {error}") from error
    return result_of(_execution(kept, read))


def _kept(folder: Path) -> KeptRun:
    try:
        return ADAPTER.validate_json((folder / RUN).read_bytes())
    except ValidationError as error:
        raise ResultFormatError(
            f"{folder / RUN} is damaged, or another version's: {str(error).splitlines()[0]}"
        ) from error


class _Read:
    """The log of one part, as far as it was written."""

    def __init__(self, part: Part, log: CallLog, *, in_flight: int, missing: int) -> None:
        self.part, self.log = part, log
        self.in_flight, self.missing = in_flight, missing


def _read(folder: Path, kept: KeptPart, start_ns: int) -> _Read:
    path = folder / kept.log
    file = LogFile.left_behind(path, kept.rows, kept.room, kept.columns)
    given_back = file.folded_rows
    errors = (_UNKNOWN,)
    counts, counted = saved_counts(path, errors, open_loop=kept.queued)
    begin = max(counted, given_back)
    # the places before have rows that are counted already
    end = min(given_back + kept.room, kept.rows)
    if begin:
        claimed = file.written_rows(begin, kept.place.callers, end)
    else:
        claimed = file.rows_left(kept.place.callers)
    in_flight = len(file.calls_in_flight(begin, claimed))
    log = file.hand_over(start_ns, begin, claimed, errors, open_loop=kept.queued)
    np.minimum(log.error, 0, out=log.error)
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
    return _Read(part, log, in_flight=in_flight, missing=max(given_back - counted, 0))


def _schedule(log: Path, kept: KeptPart) -> Schedule | None:
    if kept.calls is None:
        return None
    return Schedule(
        times_ns=np.fromfile(times_path(log), np.int64),
        period_ns=kept.period_ns,
        calls=kept.calls,
        span_ns=kept.span_ns,
    )


def _execution(kept: KeptRun, read: list[_Read]) -> Execution:
    parts, logs = [one.part for one in read], [one.log for one in read]
    last_ns = max((_last_ns(log) for log in logs), default=0)
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
        warnings=[_killed(read)],
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


def _killed(read: list[_Read]) -> RunWarning:
    in_flight, missing = sum(one.in_flight for one in read), sum(one.missing for one in read)
    message = "the run was killed before it was saved: these are the calls that had finished"
    if in_flight:
        message += f"; {count_text(in_flight, 'call')} in flight went with it"
    if missing:
        message += f"; {count_text(missing, 'call')} could not be saved while it went on"
    return RunWarning(
        code="killed",
        message=message,
        hint="words of errors, memory, devices and verified outputs went with its processes",
    )
