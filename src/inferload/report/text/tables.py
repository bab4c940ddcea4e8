"""The tables of a report that have a line for each model, stage, rank, process or caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from inferload.report.text.parts import captioned, quoted_text, wanting_note
from inferload.units import milliseconds_text, ranges_text, rate_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.records.figures import ProcessFigures, RankFigures
    from inferload.records.result import RunResult
    from inferload.records.stages import LoadStage

# Processes that a report names one by one.
MOST_LINES = 8
# Callers whose cores are shown, and cores that are drawn rather than only named.
MOST_LAID_OUT = 16
MOST_DRAWN = 48
QUOTED = ("p50", "p99")


def _counted(unit: str) -> tuple[str, str]:
    return f"{unit}s", f"{unit}s/s"


def models_table(result: RunResult) -> Table:
    """A line for each model of a mix."""
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    names = ["model", "form", "share", *_counted(result.spec.unit), "p50", "p99"]
    failed = any(one.failed_calls for one in result.models)
    verified = any(one.verification is not None for one in result.models)
    for name in [*names, *["failed"] * failed, *["verified"] * verified]:
        left = name in {"model", "form", "verified"}
        table.add_column(name, justify="left" if left else "right", no_wrap=name != "model")
    total = sum(one.completed_calls + one.failed_calls for one in result.models)
    for share, one in zip(result.spec.models, result.models, strict=True):
        made = one.completed_calls + one.failed_calls
        quantiles = [
            None if one.response_ms is None else getattr(one.response_ms, name) for name in QUOTED
        ]
        cells = [
            share.name,
            share.form,
            f"{made / max(total, 1):.1%}",
            f"{one.completed_calls:,}",
            rate_text(one.throughput_calls_per_s.value),
            *map(quoted_text, quantiles),
        ]
        if failed:
            cells.append(f"{one.failed_calls:,}")
        if verified and one.verification is not None:
            well = not one.verification.differing and one.verification.reason is None
            cells.append("yes" if well else "no")
        table.add_row(*cells)
    known = [one.response_ms for one in result.models if one.response_ms is not None]
    table.caption = wanting_note([one.more_calls for one in known], QUOTED) or None
    return table


def load_stages_table(result: RunResult) -> Table:
    """A line for each stage of a load whose rate changes.

    After a stage in which the queue grew each line has how many calls that had left behind.
    """
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    stages, unit = result.load_stages, result.spec.unit
    failed = any(one.failed_calls for one in stages)
    unfinished = any(one.unfinished_calls for one in stages)
    lost = [*["failed"] * failed, *["unfinished"] * unfinished]
    for name in ("stage", "due", *lost, f"{unit}s/s", *QUOTED, "late p99", "queue"):
        left = name in {"stage", "queue"}
        table.add_column(name, justify="left" if left else "right", no_wrap=name != "stage")
    grew = False
    for one in stages:
        quantiles = [
            None if one.response_ms is None else getattr(one.response_ms, name) for name in QUOTED
        ]
        before = [f"{one.waiting_calls:,} waited"] * bool(grew and one.waiting_calls)
        grew |= one.overload is not None
        table.add_row(
            _stage_text(one),
            f"{one.due_calls:,}",
            *[f"{one.failed_calls:,}"] * failed,
            *[f"{one.unfinished_calls:,}"] * unfinished,
            rate_text(one.served_per_s),
            *map(quoted_text, quantiles),
            quoted_text(None if one.lateness_ms is None else one.lateness_ms.p99),
            ", ".join([*before, *["grew"] * (one.overload is not None)]),
        )
    missing = len(result.spec.load_stages) - len(stages)
    ended = f"{missing} more stage{'s' * (missing > 1)} did not begin" if missing else ""
    known = [one.response_ms.more_calls for one in stages if one.response_ms is not None]
    table.caption = captioned(ended, wanting_note(known, QUOTED))
    return table


def _stage_text(one: LoadStage) -> str:
    """What was asked for, and how much of it there was if that is less."""
    lasted_s = one.until_s - one.from_s
    short = lasted_s < 0.995 * one.stage.duration_s
    return f"{one.stage}" + (f" ({lasted_s:.3g} s of it)" if short else "")


def ranks_table(ranks: Sequence[RankFigures], unit: str = "call") -> Table:
    """A line for each rank: all where they are few, else those that were lost and the slowest."""
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    for name in ("rank", "host", *_counted(unit), "p50", "p99", "began after", ""):
        left = name in {"host", ""}
        table.add_column(name, justify="left" if left else "right", no_wrap=name != "host")
    shown = ranks
    if len(ranks) > MOST_LINES:
        shown = sorted(ranks, key=_slowest_first)[:MOST_LINES]
    for one in shown:
        times = (one.p50_ms, one.p99_ms, one.start_late_ms)
        table.add_row(
            str(one.rank),
            one.host,
            f"{one.completed_calls:,}",
            rate_text(one.throughput_calls_per_s),
            *("-" if time_ms is None else milliseconds_text(time_ms) for time_ms in times),
            "" if one.lost is None else "lost",
        )
    few = ""
    if len(ranks) > MOST_LINES:
        lost = sum(one.lost is not None for one in ranks)
        few = f"the slowest of {len(ranks):,} ranks" + (f", {lost:,} lost" * bool(lost))
    table.caption = captioned(few, wanting_note([one.more_calls for one in shown], QUOTED))
    return table


def _slowest_first(one: RankFigures) -> tuple[bool, float]:
    """Ranks that were lost, then by their median, however few the calls."""
    return one.lost is None, -(one.median_ms or one.p50_ms or 0.0)


def processes_table(processes: Sequence[ProcessFigures], unit: str = "call") -> Table:
    """A line for each process: all where they are few, else the slowest."""
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    for name in ("process", *_counted(unit), "p50", "p99", "began after", "ended"):
        table.add_column(name, justify="left" if name == "ended" else "right", no_wrap=True)
    shown = processes
    if len(processes) > MOST_LINES:
        shown = sorted(processes, key=lambda one: one.throughput_calls_per_s)[:MOST_LINES]
    for one in shown:
        times = (one.p50_ms, one.p99_ms, one.start_late_ms)
        table.add_row(
            str(one.process),
            f"{one.completed_calls:,}",
            rate_text(one.throughput_calls_per_s),
            *("-" if time_ms is None else milliseconds_text(time_ms) for time_ms in times),
            "" if one.ending is None else one.ending.signal or f"exit {one.ending.exit_code}",
        )
    few = f"the slowest of {len(processes):,} processes" if len(processes) > MOST_LINES else ""
    table.caption = captioned(few, wanting_note([one.more_calls for one in shown], QUOTED))
    return table


def layout_table(result: RunResult) -> Table:
    """Which caller could run on which cores, read back from each of them."""
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    lines = [
        (one.process, caller, cpus, one.threads[caller])
        for one in result.processes
        for caller, cpus in enumerate(one.cpus)
    ]
    every = sorted({cpu for _, _, cpus, _ in lines for cpu in cpus})
    drawn = len(every) <= MOST_DRAWN
    for name in ("process", "caller", "threads"):
        table.add_column(name, justify="right")
    table.add_column("cores")
    if drawn:
        table.add_column("")
    for process, caller, cpus, threads in lines[:MOST_LAID_OUT]:
        picture = ["".join("■" if cpu in cpus else "·" for cpu in every)] * drawn
        table.add_row(str(process), str(caller), str(threads), ranges_text(cpus), *picture)
    if len(lines) > MOST_LAID_OUT:
        table.caption = f"and {len(lines) - MOST_LAID_OUT:,} more callers"
    return table
