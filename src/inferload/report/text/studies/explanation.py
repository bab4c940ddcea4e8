"""What an explanation says: the bound and why, each change, and where the time goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from inferload.report.text.parts import (
    Preformatted,
    bar,
    change_text,
    interval_text,
    study_header,
    study_warnings,
)
from inferload.units import bytes_text, count_text, duration_text, milliseconds_text, rate_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from inferload.studies.records.explanation import Effect, Explanation, Operator, Traced, Work

_BAR_CELLS = 10
_LONGEST_NAME = 40
# An interval within it is one of no effect to speak of.
_SMALL = 0.1
# Shares of calls that tracing slowed by more are rough.
_ROUGH = 0.5


def explanation_report(found: Explanation) -> RenderableType:
    """The answer first, then a line for each change, then where the time goes."""
    parts: list[RenderableType] = [_header(found), Text(), Text(found.says, style="bold"), Text()]
    if found.command:
        parts += [Text("What makes most of it:"), _command(found.command), Text()]
    parts += [_effects(found)] if found.tried else []
    parts += [Text(line) for line in _without_effect(found)]
    parts += _not_tried(found)
    parts += _time(found)
    parts += [Text(f"{one[0].upper()}{one[1:]}.", style="dim") for one in found.notes]
    return Group(*parts, *study_warnings(found.warnings))


def _header(found: Explanation) -> Table:
    run = found.run
    rows = {"target": found.target}
    if run.spec is not None and run.summary is not None:
        asked = run.spec
        rows["as asked"] = (
            f"{count_text(asked.callers, 'caller')}, "
            f"{count_text(asked.threads_per_call, 'thread')} a call, form {asked.form}, "
            f"{asked.executor}: {rate_text(run.summary.throughput_calls_per_s.value)} calls/s"
        )
    tried = f"{count_text(len(found.tried), 'change')} in {count_text(found.rounds, 'round')} of "
    rows["runs"] = f"{tried}fresh processes, {duration_text(found.took_s)}"
    if found.time_limit_s is not None and found.took_s > 1.3 * found.time_limit_s:
        rows["runs"] += f" ({duration_text(found.time_limit_s)} were asked for)"
    if found.status != "complete":
        rows["runs"] += f"; {found.status}"
    return study_header(rows, found.environment)


def _command(text: str) -> Preformatted:
    return Preformatted([Text(f"  {text}")])


def _effects(found: Explanation) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    table.add_column("what if", no_wrap=True)
    for name in ("items/s", "change", "95 %", "p50"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found.tried:
        if not one.claimed:
            continue
        style = "bold" if one.name == found.best else None
        table.add_row(
            one.what + " ?" * one.too_good + " ~" * one.stood_still,
            "-" if one.per_s is None else rate_text(one.per_s),
            change_text(one.ratio),
            interval_text(one.low, one.high),
            change_text(one.p50_ratio),
            style=style,
        )
    notes = []
    if any(one.too_good for one in found.tried):
        notes.append("?  so much more that it cannot do the same work")
    if any(one.claimed and one.stood_still for one in found.tried):
        notes.append(
            "~  so much less that threads mostly stood waiting for cores that others had: a run of "
            "seconds may make far more"
        )
    if notes:
        table.caption, table.caption_justify = "\n".join(notes), "left"
    return table


def _without_effect(found: Explanation) -> list[str]:
    """What was tried and changes nothing that could be told from noise."""
    unclaimed = [one for one in found.tried if not one.claimed]
    small = [one for one in unclaimed if _is_small(one)]
    noisy = [one for one in unclaimed if not _is_small(one)]
    lines = []
    if small:
        lines += ["No effect:", *(f"  not {_within(one)}" for one in small)]
    if noisy:
        lines.append("Not told from noise, a longer --time-limit may:")
        lines += [f"  {_within(one)}" for one in noisy]
    return lines


def _is_small(one: Effect) -> bool:
    return (
        one.low is not None
        and one.high is not None
        and (one.low > 1 - _SMALL and one.high < 1 + _SMALL)
    )


def _within(one: Effect) -> str:
    return f"{one.what}: {interval_text(one.low, one.high)}"


def _not_tried(found: Explanation) -> list[RenderableType]:
    """What was not tried, each reason once."""
    reasons: dict[str, list[str]] = {}
    for one in found.effects:
        if one.ratio is None:
            reasons.setdefault(one.why_not, []).append(one.what)
    if not reasons:
        return []
    table = Table.grid(padding=(0, 2), pad_edge=False)
    table.add_column(max_width=_LONGEST_NAME)
    table.add_column()
    for reason, names in reasons.items():
        table.add_row(f"  {', '.join(names)}", reason, style="dim")
    return [Text("Not tried:", style="dim"), table]


def _time(found: Explanation) -> list[RenderableType]:
    parts: list[RenderableType] = []
    used = found.used
    if used is not None:
        parts += [
            Text(),
            Text("Where the time goes", style="bold"),
            Text(
                f"{used.cores:.2f} of {used.usable_cores:g} cores at work, {used.system_share:.0%} "
                f"of it in the kernel; a call makes {_few(used.faults)} page faults and gives up "
                f"its core {_few(used.waits)} times"
            ),
        ]
        codes = {one.code: one.message for one in found.warnings}
        parts += [Text(codes[code]) for code in ("gil", "run-queue", "throttled") if code in codes]
    waits = None if found.traced is None else found.traced.gil_waits
    if waits is not None and found.run.spec is not None and "threads" in found.run.spec.executors:
        parts.append(
            Text(f"another thread that asks for the GIL has to wait {waits:.0%} of the time")
        )
    if found.work is not None:
        parts.append(Text(_work_text(found.work, found)))
    if found.traced is not None:
        parts += _operators(found.traced)
    return [*parts, Text()]


def _few(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _work_text(work: Work, found: Explanation) -> str:
    """What calls compute and move, of what the machine reaches."""
    if work.why_not:
        return f"What a call computes is not known: {work.why_not}"
    summary = found.run.summary
    if summary is None or work.bytes is None or (work.flops is None and not work.uncounted):
        return ""
    calls_per_s = summary.throughput_calls_per_s.value
    if found.used is not None:
        calls_per_s = found.used.calls_per_s
    asked = f"{_few(work.allocations)} times for memory, {bytes_text(work.allocated_bytes)} in all"
    texts = [f"operators a call: {_few(work.operators)}, which ask {asked}"]
    if work.flops is None:
        texts += [f"FLOPs are not counted: nobody knows those of {', '.join(work.uncounted)}"]
    else:
        texts += [f"it computes {_flop_text(work.flops)}"]
    if work.peak_flops_per_s and work.flops is not None:
        share = work.flops * calls_per_s / work.peak_flops_per_s
        texts[-1] += (
            f": {share:.0%} of the {work.peak_flops_per_s / 1e9:,.0f} GFLOP/s that a product of "
            f"matrices in {work.dtype} reaches here"
        )
    texts.append(f"its operators read and write {bytes_text(work.bytes)}")
    if work.peak_bytes_per_s:
        share = work.bytes * calls_per_s / work.peak_bytes_per_s
        texts[-1] += f": {share:.0%} of the {bytes_text(work.peak_bytes_per_s)}/s of a copy"
    return "; ".join(texts)


def _flop_text(count: float) -> str:
    """Such as ``"0.298 GFLOP"``."""
    for unit, size in (("GFLOP", 1e9), ("MFLOP", 1e6), ("kFLOP", 1e3)):
        if count >= size / 10:
            return f"{count / size:,.3g} {unit}"
    return f"{count:,.0f} FLOP"


def _operators(traced: Traced) -> list[RenderableType]:
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    table.add_column("operator", no_wrap=True)
    for name in ("self", "a call", "of a call"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    rows = [_row(one) for one in traced.operators]
    for row in rows:
        table.add_row(*row)
    table.add_row(
        "outside of operators", "", "", f"{traced.outside:.0%}", bar(traced.outside, _BAR_CELLS),
        style="dim",
    )  # fmt: skip
    slowed = "" if traced.slowed is None else f" at {traced.slowed:.2f}x of its pace"
    rough = ""
    if traced.slowed is not None and traced.slowed < _ROUGH:
        rough = ", which makes shares rough"
    said = (
        f"From {count_text(traced.calls, 'call')} of a traced run{slowed}{rough}; no other figure "
        f"is of it. {_few(traced.times)} operators a call, with those that they call."
    )
    parts: list[RenderableType] = [Text(), table, Text(said, style="dim")]
    if traced.kernels:
        own = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
        own.add_column("on the device", no_wrap=True)
        for name in ("self", "a call", "of its time"):
            own.add_column(name, justify="right", no_wrap=True)
        own.add_column("", no_wrap=True)
        for one in traced.kernels:
            own.add_row(*_row(one))
        parts += [Text(), own]
    return parts


def _row(one: Operator) -> tuple[str, str, str, str, str]:
    name = one.name if len(one.name) <= _LONGEST_NAME else f"{one.name[: _LONGEST_NAME - 1]}…"
    return (
        name,
        milliseconds_text(one.self_ms),
        _few(one.times),
        f"{one.share:.0%}",
        bar(one.share, _BAR_CELLS),
    )
