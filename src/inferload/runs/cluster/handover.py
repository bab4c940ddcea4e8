"""What one rank hands over to the first: figures as JSON, and its log, raw or counted.

Nothing is pickled: whoever can reach the store could write there.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from pydantic import TypeAdapter, ValidationError

from inferload.callers.crew import (
    PartReport,  # noqa: TC001
    Preparation,  # noqa: TC001
)
from inferload.errors import ResultFormatError
from inferload.files import json_text
from inferload.log.failures import CallFailure  # noqa: TC001 - pydantic reads these records
from inferload.log.merge import counted, thinned
from inferload.log.saved import log_of_bytes, log_parts
from inferload.log.tally import SAMPLED_CALLS
from inferload.machine.disturbances import Disturbances  # noqa: TC001
from inferload.machine.telemetry import Telemetry
from inferload.records.figures import (
    CpuUse,  # noqa: TC001
    MemoryUse,  # noqa: TC001
    RunWarning,  # noqa: TC001
)
from inferload.runs.execution import HungCall  # noqa: TC001
from inferload.stats.process_calls import CallsOfLog, CountedCalls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.callers.outcome import Outcome
    from inferload.log.calls import CallLog
    from inferload.runs.execution import Execution, ProcessRecord

# So many calls of all ranks are merged one by one (36 bytes each, several times over); of more,
# counts are.
MOST_RAW_CALLS = 2_000_000
# Of more processes than this in all, memory is told by its peaks and growth alone.
MOST_SERIES = 64
# Looks at calls in flight are handed over as means of so many stretches of time.
LOOKS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessReport:
    """One process of a rank; ``figures`` if there are several, and the log is counted."""

    ready: Preparation
    reports: tuple[PartReport, ...]
    memory: MemoryUse | None
    cpu: CpuUse | None
    figures: CountedCalls | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RankReport:
    """All that one rank hands over beside its log; the fields are those of ``Execution``."""

    rank: int
    host: str
    processes: tuple[ProcessReport, ...]
    errors: tuple[CallFailure, ...]
    figures: CountedCalls | None
    late_ms: float
    clock_error_ms: float
    open_s: float
    warnings: tuple[RunWarning, ...]
    abandoned: bool
    due_calls: int
    due_s: float | None
    stopped_s: float | None
    looks: tuple[tuple[float, float], ...]
    hung: tuple[HungCall, ...]
    never_ready: bool
    nursery_pss_bytes: int | None
    disturbances: Disturbances
    telemetry: Telemetry
    signals: tuple[str, ...]


_REPORT = TypeAdapter(RankReport)


def handed_over(
    done: Execution,
    *,
    rank: int,
    ranks: int,
    host: str,
    late_ms: float,
    clock_error_ms: float,
    most_raw_calls: int | None = None,
) -> tuple[RankReport, CallLog]:
    """What a rank hands over; of more than its share of ``most_raw_calls`` the log is counted."""
    first = done.processes[0].ready.spec
    log = done.log
    most = MOST_RAW_CALLS if most_raw_calls is None else most_raw_calls
    own: list[CountedCalls | None] = [None] * len(done.processes)
    figures = None
    if log.tally is not None or len(log) > most // ranks:
        log = _counted(log, first.callers, ranks)
        figures = CountedCalls.of(log)
        if len(done.processes) > 1:  # else its figures are those of the rank
            own = [_counted_calls(one) for one in done.processes]
    series = len(done.processes) * ranks <= MOST_SERIES
    report = RankReport(
        rank=rank,
        host=host,
        processes=tuple(
            ProcessReport(
                ready=one.ready,
                reports=tuple(map(_small, one.reports)),
                memory=one.memory if series or one.memory is None else _peaks(one.memory),
                cpu=one.cpu if series else None,
                figures=counted_calls,
            )
            for one, counted_calls in zip(done.processes, own, strict=True)
        ),
        errors=log.errors,
        figures=figures,
        late_ms=late_ms,
        clock_error_ms=clock_error_ms,
        open_s=done.open_s,
        warnings=tuple(done.warnings),
        abandoned=done.abandoned,
        due_calls=done.due_calls,
        due_s=done.due_s,
        stopped_s=done.stopped_s,
        looks=_means(done.looks[0] if done.looks else ()),
        hung=tuple(done.hung),
        never_ready=done.never_ready,
        nursery_pss_bytes=done.nursery_pss_bytes,
        disturbances=done.disturbances,
        telemetry=done.telemetry.get(0, Telemetry()),
        signals=tuple(done.signals),
    )
    return report, log


def packed(report: RankReport, log: CallLog) -> bytes:
    """What is handed over as bytes: the length of the JSON, the JSON, the log."""
    write, plain = partial(_REPORT.dump_json, report), partial(_REPORT.dump_python, report)
    text = json_text(write, plain).encode()
    parts = [struct.pack("<Q", len(text)), text, *log_parts(log, f"rank {report.rank}")]
    return b"".join(parts)


def unpacked(content: bytearray, rank: int) -> tuple[RankReport, CallLog]:
    """What :func:`packed` made.

    Raises:
        ResultFormatError: it is damaged, or another version's.
    """
    try:
        (length,) = struct.unpack_from("<Q", content)
        report = _REPORT.validate_json(bytes(content[8 : 8 + length]))
    except (struct.error, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise ResultFormatError(
            f"what rank {rank} handed over cannot be read ({reason}): do all ranks have the same "
            "version of inferload?"
        ) from error
    log = np.frombuffer(content, np.uint8, offset=8 + length)
    open_loop = report.processes[0].ready.spec.queued
    return report, log_of_bytes(
        log, f"rank {rank}", f"rank {rank}", report.errors, open_loop=open_loop
    )


def _counted(log: CallLog, callers: int, ranks: int) -> CallLog:
    """The log as counts, with this rank's share of the rows that are kept of all."""
    found = counted(log, callers)
    one_in = 1
    while len(found) / one_in > SAMPLED_CALLS / ranks:
        one_in *= 2
    return thinned(found, one_in)


def _counted_calls(process: ProcessRecord) -> CountedCalls | None:
    calls = process.calls
    if not isinstance(calls, CallsOfLog):
        raise TypeError("a rank has the logs of its own processes")
    if not calls.log.calls_made:
        return None
    found = counted(calls.log, process.ready.spec.callers)
    return CountedCalls.of(found)


def _small(report: PartReport) -> PartReport:
    """A report without what has no use elsewhere, or cannot be sent."""
    return replace(report, outcome=_small_outcome(report.outcome))


def _small_outcome(outcome: Outcome) -> Outcome:
    failure = outcome.first_failure
    firsts = [first for first in outcome.first_calls_ns if first]
    slowest = max(firsts, key=lambda first: first[0], default=None)
    return replace(
        outcome,
        kept=(),
        piece_times=None,  # they are the log's, as errors are
        errors=(),
        first_calls_ns=() if slowest is None else (slowest,),
        first_failure=None if failure is None else replace(failure, exception=None),
    )


def _peaks(memory: MemoryUse) -> MemoryUse:
    return replace(
        memory,
        times_s=memory.times_s[-1:],
        rss_bytes=memory.rss_bytes[-1:],
        pss_times_s=memory.pss_times_s[-1:],
        pss_bytes=memory.pss_bytes[-1:],
    )


def _means(looks: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Looks of stretches of time: when each began, and what was seen in the mean."""
    found = np.array(looks, np.float64).reshape(-1, 2)
    stretches = np.array_split(found, min(LOOKS, len(found))) if len(found) else []
    return tuple((float(one[0, 0]), float(one[:, 1].mean())) for one in stretches)
