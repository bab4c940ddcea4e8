"""What all ranks of a cluster left behind, as one execution.

Ranks are added one after another: of each only its figures stay, and its calls where all ranks
together have few.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from inferload.log.merge import LogPlace, Merge
from inferload.machine.disturbances import Disturbances
from inferload.runs.execution import Execution, ProcessRecord, RankRecord
from inferload.stats.process_calls import CallsOfLog, CallsOfProcess

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from inferload.log.calls import CallLog
    from inferload.runs.cluster.handover import RankReport
    from inferload.stats.process_calls import ProcessCalls


class Fleet:
    """All ranks of one run; ``most_raw_calls`` as :func:`handover.handed_over` has it."""

    def __init__(self, most_raw_calls: int) -> None:
        self._most_raw_calls = most_raw_calls
        self._merge: Merge | None = None
        self._lanes: tuple[int, ...] = ()
        self._reports: list[RankReport] = []
        self._processes: list[ProcessRecord] = []
        self._records: dict[int, RankRecord] = {}

    def add(self, report: RankReport, log: CallLog) -> None:
        """Add one rank."""
        spec = report.processes[0].ready.spec
        count = len(report.processes)
        if self._merge is None:
            self._lanes = spec.callers_by_lane
            self._merge = Merge(
                open_loop=spec.queued, inputs=len(spec.inputs), most_rows=self._most_raw_calls
            )
        log = replace(log, callers_by_lane=self._lanes)
        callers = count * spec.callers
        place = LogPlace(callers=callers, first_caller=report.rank * callers)
        self._merge.add(log, place)
        of_rank: ProcessCalls = report.figures or CallsOfLog(log)
        self._records[report.rank] = RankRecord(
            rank=report.rank,
            host=report.host,
            calls=of_rank,
            late_ms=report.late_ms,
            clock_error_ms=report.clock_error_ms,
        )
        for number, one in enumerate(report.processes):
            calls = of_rank
            if one.figures is not None:
                calls = one.figures
            elif count > 1 and report.figures is None:
                calls = CallsOfProcess(log, number)
            self._processes.append(
                ProcessRecord(
                    number=report.rank * count + number,
                    rank=report.rank,
                    ready=one.ready,
                    reports=one.reports,
                    calls=calls,
                    memory=one.memory,
                    cpu=one.cpu,
                )
            )
        # what the records hold need not be held twice
        self._reports.append(replace(report, processes=report.processes[:1], figures=None))

    def execution(self, lost: Mapping[int, tuple[str, str]], calls: int | None) -> Execution:
        """All of them; ``lost`` has the machine of each lost rank, and how it was lost.

        ``calls``: how many all ranks were to make, where that was said.
        """
        if self._merge is None:
            raise ValueError("a fleet has at least one rank")
        for rank, (host, how) in lost.items():
            known = self._records.get(rank)
            self._records[rank] = (
                RankRecord(rank=rank, host=host, lost=how)
                if known is None
                else replace(known, lost=how)
            )
        reports = sorted(self._reports, key=lambda one: one.rank)
        processes = sorted(self._processes, key=lambda one: one.number)
        per_rank = len(processes) // len(reports)
        first = processes[0]
        spec = replace(first.ready.spec, calls=calls)
        processes[0] = replace(first, ready=replace(first.ready, spec=spec))
        nurseries = [r.nursery_pss_bytes for r in reports if r.nursery_pss_bytes is not None]
        return Execution(
            processes=processes,
            log=self._merge.log(self._lanes),
            open_s=max(report.open_s for report in reports),
            warnings=[warning for report in reports for warning in report.warnings],
            abandoned=any(report.abandoned for report in reports),
            due_calls=sum(report.due_calls for report in reports),
            due_s=max((r.due_s for r in reports if r.due_s is not None), default=None),
            stopped_s=max((r.stopped_s for r in reports if r.stopped_s is not None), default=None),
            looks=[report.looks for report in reports],
            hung=[
                replace(one, process=report.rank * per_rank + one.process)
                for report in reports
                for one in report.hung
            ],
            never_ready=any(report.never_ready for report in reports),
            nursery_pss_bytes=sum(nurseries) if nurseries else None,
            disturbances=_of_all([report.disturbances for report in reports]),
            telemetry={report.rank: report.telemetry for report in reports},
            signals=tuple(dict.fromkeys(name for report in reports for name in report.signals)),
            ranks=[self._records[rank] for rank in sorted(self._records)],
        )


def _of_all(found: Sequence[Disturbances]) -> Disturbances:
    """Sums over all machines, and the worst of them."""

    def worst(values: Sequence[float | None]) -> float | None:
        return max((value for value in values if value is not None), default=None)

    return Disturbances(
        steal_fraction=worst([one.steal_fraction for one in found]),
        throttled_s=worst([one.throttled_s for one in found]),
        gc_pauses=sum(one.gc_pauses for one in found),
        gc_total_ms=max(one.gc_total_ms for one in found),
        gc_longest_ms=max(one.gc_longest_ms for one in found),
        gil_wait_ms=worst([one.gil_wait_ms for one in found]),
    )
