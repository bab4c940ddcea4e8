"""The result of a run that has ended, from what its processes left behind: figures and warnings."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from inferload.log.failures import is_fatal
from inferload.plan.arrivals.clients import THINKS
from inferload.plan.arrivals.loads import ClosedLoop
from inferload.records.figures import ProcessFigures, RankFigures, SetUp
from inferload.records.result import RunResult
from inferload.runs.checks import result as checks
from inferload.runs.checks.findings import Findings
from inferload.runs.checks.limits import limit_verdicts
from inferload.runs.device_result import device_figures, device_warnings
from inferload.runs.server_result import server_figures
from inferload.runs.stage_result import stage_figures
from inferload.stats import summary as stats
from inferload.stats.batches import batch_figures
from inferload.stats.failures import failure_figures
from inferload.stats.load_stages import with_stages
from inferload.stats.pieces import piece_figures
from inferload.stats.process_calls import overloaded_processes, part_figures
from inferload.stats.steadiness.steady_state import not_known
from inferload.units import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.callers.crew import Preparation
    from inferload.records.figures import RunWarning, Summary, Verification
    from inferload.records.spec import RunSpec
    from inferload.runs.execution import Execution, ProcessRecord, RankRecord


def result_of(done: Execution) -> RunResult:
    """Summarize and check a run."""
    ready = [process.ready for process in done.processes]
    reports = [report for process in done.processes for report in process.reports]
    spec = _spec_of_all(done)
    status = _status(done, spec)
    # a rate that changes has no steady state
    steady = not_known() if spec.load_stages else stats.judged(done.log)
    # of a run that a process or a call has ended, what came before it is no warm-up
    whole = spec.warmup != "auto" or status in {"failed", "crashed", "timed out"}
    from_s = 0.0 if whole else stats.cut_of(steady)
    made_calls = done.log.calls_made
    unfinished = max(done.due_calls - made_calls, 0)
    summary = stats.summarize(
        done.log,
        spec.items_per_input,
        callers=sum(one.spec.callers for one in ready),
        from_s=from_s,
        unfinished=unfinished,
        # a run that was cut short was not looked at for as long as its calls were due
        in_flight=None if status != "complete" else stats.mean_in_flight(done.looks, from_s),
        due_s=_due_s(done),
        observed_s=done.stopped_s if done.abandoned or unfinished else None,
        clients=_clients(spec, made_calls),
    )
    elements = () if spec.batching is None else spec.batching.elements_per_input
    batches = batch_figures(done.log, summary, elements)
    summary = replace(summary, batches=batches, pieces=piece_figures(done.log, summary))
    stages = stage_figures(done, spec, _due_s(done))
    summary = with_stages(summary, stages)
    # ranks of a cluster do not end at the same moment when something ends them
    if status in {"crashed", "timed out"} or (done.ranks and status != "complete"):
        summary = replace(summary, littles_law=None, littles_law_error=None)
    set_up = _set_up(done, ready)
    processes = [_process(one, summary) for one in done.processes]
    by_rank: dict[int, list[ProcessRecord]] = {}
    for one in done.processes:
        by_rank.setdefault(one.rank, []).append(one)
    first = ready[0].environment
    ranks = [_rank(one, by_rank.get(one.rank, []), first, summary) for one in done.ranks]
    verification = _verification(
        [
            _numbered(report.verification, process.number * spec.callers_per_process)
            for process in done.processes
            for report in process.reports
            if report.verification is not None
        ]
    )
    devices = device_figures(done, summary, spec.items_per_input)
    troubles = [one.trouble for one in done.telemetry.values() if one.trouble is not None]
    servers = server_figures(done)
    found = Findings(
        spec=spec,
        summary=summary,
        load_stages=stages,
        steady=steady,
        disturbances=done.disturbances,
        made_calls=made_calls,
        failed_calls=done.log.calls_failed,
        errors=done.log.errors,
        floor_ms=set_up.harness_ms,
        run_delay_s=sum(report.outcome.run_delay_ns for report in reports) / NS_PER_S,
        loop_lag_ms=max(filter(None, (one.outcome.loop_lag_ms for one in reports)), default=None),
        recompiled_graphs=sum(report.recompiled_graphs for report in reports),
        cut_short=status != "complete" or bool(done.broken),
        widths_when_ended=done.widths,
        disk_full=any(report.outcome.disk_full for report in reports),
        log_was_full=any(report.outcome.log_was_full for report in reports),
        on_device=any(one.devices for one in ready),
        verification=verification,
        processes=processes,
        ranks=ranks,
        servers=servers,
        machines=_machines(done),
    )
    return RunResult(
        run_id=uuid.uuid4().hex,
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        status=status,
        spec=spec,
        environment=first,
        set_up=set_up,
        summary=summary,
        warnings=_distinct(
            [
                *[warning for one in ready for warning in one.warnings],
                *done.warnings,
                *[warning for report in reports for warning in report.warnings],
                *checks.warnings_after(found),
                *device_warnings(devices, troubles),
            ]
        ),
        steady=None if stages else steady,
        limits=limit_verdicts(done.log, spec.limits, summary, stages, done.broken),
        load_stages=stages,
        verification=verification,
        processes=tuple(processes),
        ranks=tuple(ranks),
        models=tuple(
            stats.model_figures(
                done.log,
                share,
                number,
                summary,
                _verification(
                    [
                        report.verification_by_model[number]
                        for report in reports
                        if report.verification_by_model
                    ]
                ),
            )
            for number, share in enumerate(spec.models)
        ),
        devices=devices,
        failures=failure_figures(done.log),
        servers=servers,
        cpu_energy_j=_cpu_energy_j(done, summary),
        log=done.log,
    )


def _due_s(done: Execution) -> float | None:
    """Until when calls were due: no longer than until the run was stopped."""
    if done.due_s is None or done.stopped_s is None:
        return done.due_s
    return min(done.due_s, done.stopped_s)


def _clients(spec: RunSpec, calls: int) -> tuple[int, float] | None:
    """The clients of a closed loop, and how long they have thought in the mean."""
    if spec.clients is None:
        return None
    load = ClosedLoop(
        clients=spec.clients, think_s=spec.think_s or 0.0, think=spec.think or THINKS[0]
    )
    drawn = [load.clients_of(n, spec.processes, spec.seed) for n in range(min(spec.processes, 8))]
    means = [one.mean_think_s(calls // spec.processes) for one in drawn if one is not None]
    return spec.clients, sum(means) / len(means)


def _status(done: Execution, spec: RunSpec) -> str:
    if any(process.ending is not None for process in done.processes):
        return "crashed"
    if any(rank.lost is not None for rank in done.ranks):
        return "rank lost"
    if done.signals:
        return "interrupted"
    if done.hung or done.never_ready:
        return "timed out"
    reports = [report for process in done.processes for report in process.reports]
    failures = [report.outcome.first_failure for report in reports]
    lost = [one for one in failures if one is not None and is_fatal(one.words)]
    failed = any(failures) and spec.on_error == "stop"
    return "failed" if failed or lost else "complete"


def _spec_of_all(done: Execution) -> RunSpec:
    """The spec with the callers and processes of all, also of ranks that were lost."""
    first = replace(done.processes[0].ready.spec, devices=_devices_of_all(done))
    if not done.ranks:
        count = len(done.processes)
        return replace(first, callers=count * first.callers, processes=count)
    own = sum(process.rank == done.processes[0].rank for process in done.processes)
    count = own * len(done.ranks)
    return replace(first, callers=count * first.callers, processes=count, ranks=len(done.ranks))


def _devices_of_all(done: Execution) -> tuple[str, ...]:
    """The devices of all processes, each once."""
    return tuple(dict.fromkeys(name for one in done.processes for name in one.ready.spec.devices))


def _cpu_energy_j(done: Execution, summary: Summary) -> float | None:
    """Of all machines, if all of them say."""
    until_s = summary.from_s + summary.duration_s
    hosts = {one.rank: one.host for one in done.ranks}
    by_host = {hosts.get(rank, ""): one for rank, one in done.telemetry.items()}
    found = [one.cpu_energy_j(summary.from_s, until_s) for one in by_host.values()]
    known = [one for one in found if one is not None]
    return sum(known) if known and len(known) == len(found) else None


def _distinct(warnings: Sequence[RunWarning]) -> tuple[RunWarning, ...]:
    """Each once, though several processes may have said it."""
    # by how much an input has grown differs from process to process
    first = {one.code: one for one in reversed(warnings) if one.code == "input-changes"}
    return tuple(dict.fromkeys(first.get(one.code, one) for one in warnings))


def _numbered(found: Verification, first_caller: int) -> Verification:
    """With the number that the caller has among those of all processes."""
    return found if found.caller is None else replace(found, caller=found.caller + first_caller)


def _verification(found: Sequence[Verification]) -> Verification | None:
    """The verifications of all processes as one; the worst difference of them."""
    if not found:
        return None
    worst = max(found, key=lambda one: (one.reason is not None, one.difference or one.differing))
    return replace(
        worst,
        compared=sum(one.compared for one in found),
        differing=sum(one.differing for one in found),
    )


def _set_up(done: Execution, ready: Sequence[Preparation]) -> SetUp:
    reports = [report for process in done.processes for report in process.reports]
    firsts = [
        first
        for report in reports
        for first in report.outcome.first_calls_ns
        if first and ready[0].spec.warmup_calls
    ]
    slowest = max(firsts, key=lambda first: first[0], default=())
    floors = [(one.floor_ms, one.floor_by_hand_ms) for one in ready if one.floor_ms is not None]
    floor = max(floors, key=lambda found: found[0] - (found[1] or 0.0), default=(None, None))
    first_calls = [r.first_call_ms for r in reports if r.first_call_ms is not None]
    by_counter = [one for report in reports for one in report.outcome.by_counter]
    off = [one for report in reports for one in report.outcome.counter_off_ns if one is not None]
    return SetUp(
        prepare_s=max(one.prepare_s for one in ready),
        load_s=max(one.load_s for one in ready),
        convert_s=max(one.convert_s for one in ready),
        process_s=max(one.process_s for one in ready),
        nursery_pss_bytes=done.nursery_pss_bytes,
        open_s=done.open_s,
        first_call_ms=max(first_calls, default=None),
        first_ten_ms=tuple(duration / NS_PER_MS for duration in slowest),
        log_bytes=sum(one.log_bytes for one in ready),
        floor_ms=floor[0],
        floor_by_hand_ms=floor[1],
        counter_off_ns=max(off, default=None),
        clock_callers=by_counter.count(False) if off else None,
    )


def _rank(
    rank: RankRecord, own: Sequence[ProcessRecord], first: dict[str, Any], summary: Summary
) -> RankFigures:
    if rank.calls is None or not own:
        return RankFigures(rank=rank.rank, host=rank.host, processes=0, callers=0, lost=rank.lost)
    figures, duration_s = part_figures(rank.calls, summary), summary.duration_s
    quantiles = figures.quantiles
    if {one.number for one in own} & overloaded_processes(summary):
        quantiles = quantiles.not_quoted()
    return RankFigures(
        rank=rank.rank,
        host=rank.host,
        processes=len(own),
        callers=sum(process.ready.spec.callers for process in own),
        completed_calls=figures.completed,
        failed_calls=figures.failed,
        throughput_calls_per_s=figures.completed / duration_s if duration_s else 0.0,
        p50_ms=quantiles.p50_ms,
        p99_ms=quantiles.p99_ms,
        more_calls=quantiles.more_calls,
        median_ms=quantiles.median_ms,
        start_late_ms=None if figures.first_ns is None else figures.first_ns / NS_PER_MS,
        late_ms=rank.late_ms,
        clock_error_ms=rank.clock_error_ms,
        differs=_differences(own[0].ready.environment, first),
        lost=rank.lost,
    )


def _machines(done: Execution) -> dict[str, dict[str, Any]]:
    """What the callers of each machine found there, by its name."""
    hosts = {one.rank: one.host for one in done.ranks}
    found: dict[str, dict[str, Any]] = {}
    for one in done.processes:
        own = one.ready.environment
        found.setdefault(hosts.get(one.rank) or str(own.get("host", "")), own)
    return found


def _differences(one: dict[str, Any], other: dict[str, Any]) -> tuple[str, ...]:
    """What a machine or build has that the first rank's has not, as far as figures depend on it."""
    names = ("cpu", "cores", "usable_cores", "torch", "python", "cpu_capability", "devices")
    return tuple(
        f"{name} {one.get(name)} (rank 0: {other.get(name)})"
        for name in (*names, "governor", "turbo")
        if one.get(name) != other.get(name)
    )


def _process(process: ProcessRecord, summary: Summary) -> ProcessFigures:
    figures = part_figures(process.calls, summary)
    quantiles, duration_s = figures.quantiles, summary.duration_s
    outcomes = [report.outcome for report in process.reports]
    if process.number in overloaded_processes(summary):
        quantiles = quantiles.not_quoted()
    return ProcessFigures(
        process=process.number,
        pid=process.ready.pid,
        callers=process.ready.spec.callers,
        completed_calls=figures.completed,
        failed_calls=figures.failed,
        throughput_calls_per_s=figures.completed / duration_s if duration_s else 0.0,
        p50_ms=quantiles.p50_ms,
        p99_ms=quantiles.p99_ms,
        more_calls=quantiles.more_calls,
        start_late_ms=None if figures.first_ns is None else figures.first_ns / NS_PER_MS,
        cpus=tuple(tuple(cpus) for outcome in outcomes for cpus in outcome.cpus),
        threads=tuple(threads for outcome in outcomes for threads in outcome.threads),
        threads_set=tuple(threads for outcome in outcomes for threads in outcome.threads_set),
        devices=tuple(info.device for info in process.ready.devices),
        memory=process.memory,
        cpu=process.cpu,
        ending=process.ending,
    )
