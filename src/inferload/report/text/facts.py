"""What a report says of a run in lines: what ran on what, and its figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from inferload.report.text.devices import energy_text
from inferload.report.text.parts import STATUS, figure_name
from inferload.report.text.pieces import pieces_text
from inferload.report.text.requests import batches_text, batching_text
from inferload.report.text.servers import is_here, server_lines
from inferload.runs.checks.load import by_the_draw, due_per_s
from inferload.stats.intervals import FEWEST_FOR_A_RATE
from inferload.stats.limits.limit import Limit
from inferload.units import bytes_text, count_text, duration_text, milliseconds_text, rate_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inferload.records.distribution import Estimate
    from inferload.records.figures import SetUp, SteadyState, Summary, Verification
    from inferload.records.limits import LimitVerdict
    from inferload.records.result import RunResult
    from inferload.records.spec import RunSpec

# A trend with a smaller chance of being none is shown.
SIGNIFICANT = 0.01


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    return grid


def header_grid(result: RunResult) -> Table:
    """Target, load, inputs, machine and build."""
    spec, found = result.spec, result.environment
    grid = _grid()
    grid.add_row("target", Text(f"{spec.target} ({spec.form})", style="bold cyan"))
    grid.add_row(
        "load",
        f"{spec.load}, {_callers(spec)} ({_executor(result)}), {end_text(spec)}, "
        f"{spec.warmup_calls} warm-up calls{' a model' * bool(spec.models)} each",
    )
    if spec.batching is not None:
        grid.add_row("batches", batching_text(spec.batching, spec.processes))
    if len(spec.servers) < max(len(spec.models), 1):  # else nothing is computed here
        grid.add_row(
            "call",
            f"{_threads(result)}, {spec.grad_mode} mode, autocast {spec.autocast}"
            f"{_on_device(spec)}",
        )
    for name, text in server_lines(result):
        grid.add_row(name, text)
    shown = "; ".join(spec.inputs[:2]) + ("; ..." if len(spec.inputs) > 2 else "")
    seed = f", seed {spec.seed}" if len(spec.inputs) > 1 else ""
    seed = ", each at the time at which it came" if spec.paired else seed
    drawn = f" ({'; '.join(spec.drawn[:2])}{'; ...' * (len(spec.drawn) > 2)})" if spec.drawn else ""
    fresh = "; a fresh copy for each call" if spec.fresh_inputs else ""
    grid.add_row("inputs", Text(f"{len(spec.inputs):,}{seed}: {shown}{drawn}{fresh}"))
    cores = f"{found.get('usable_cores', 0):g} of {found.get('cores')} cores"
    devices = ", ".join(found.get("devices", []))
    beside = "; the server is on it, too" if any(map(is_here, result.servers)) else ""
    there = f", {devices}" if devices else ""
    grid.add_row("machine", f"{found.get('cpu')}, {cores}{there}{beside}")
    grid.add_row(
        "build",
        f"torch {found.get('torch')}, Python {found.get('python')}, {found.get('cpu_capability')}",
    )
    if result.status != "complete":
        grid.add_row("status", Text(STATUS[result.status], style="bold red"))
    return grid


def _executor(result: RunResult) -> str:
    """Who calls; of tasks, whose loop it is."""
    loop = result.environment.get("event_loop")
    return f"{result.spec.executor}, {loop}" if loop else result.spec.executor


def _threads(result: RunResult) -> str:
    """Intra-op threads of a call, with what was in force where that is something else."""
    asked = result.spec.threads_per_call
    had = {one for process in result.processes for one in process.threads if one}
    text = count_text(asked, "intra-op thread")
    if not had - {asked}:
        return text
    return f"{text} asked for, {' and '.join(map(str, sorted(had)))} in force"


def _on_device(spec: RunSpec) -> str:
    if not spec.devices:
        return ""
    streams = "a stream a caller" if spec.streams == "per-caller" else "one shared stream"
    waits = "waits for an event" if spec.completion == "event" else "spins on the stream"
    copies = ", inputs and outputs copied" if spec.transfers else ""
    return f"; {streams}, {waits}{copies}"


def _callers(spec: RunSpec) -> str:
    found = count_text(spec.callers_per_process, "caller")
    own = [f"{one.callers} {one.name}" for one in spec.models if one.callers is not None]
    found += f" ({' + '.join(own)})" if own else ""
    each = spec.processes // spec.ranks
    found = f"{each} processes x {found}" if each > 1 else found
    return found if spec.ranks == 1 else f"{spec.ranks} ranks x {found}"


def end_text(spec: RunSpec) -> str:
    """What ends a run."""
    if spec.calls is not None:
        return count_text(spec.calls, spec.unit)
    if spec.duration_s is not None:
        return f"{spec.duration_s:g} s"
    if spec.precision is not None:
        quantile = figure_name(spec.quantile)
        limit = f"at most {spec.time_limit_s:g} s"
        return f"until {quantile} is within {100 * spec.precision:g}% ({limit})"
    return "to its end"


def figures_grid(result: RunResult) -> Table:
    """Throughput, calls, and how far to believe them."""
    summary, set_up = result.summary, result.set_up
    grid = _grid()
    unit = f"{result.spec.unit}s"
    grid.add_row("throughput", Text(_throughput(result), style="bold green"))
    failed = f", {summary.failed_calls:,} failed" if summary.failed_calls else ""
    failed += f", {summary.unfinished_calls:,} unfinished" if summary.unfinished_calls else ""
    grid.add_row(
        unit,
        f"{summary.completed_calls:,}{failed} in {duration_text(summary.duration_s)}"
        f"{_drawn(result)}",
    )
    if summary.batches is not None:
        grid.add_row("called", batches_text(summary.batches))
    if summary.pieces is not None:
        grid.add_row("answers", pieces_text(summary.pieces, result.spec.callers))
    for name, text in _judged(result):
        grid.add_row(name, text)
    why = "it went with the processes" if result.spec.warmup_calls else "no warm-up calls"
    first = f"not known: {why}"
    if set_up.first_call_ms is not None:
        first = milliseconds_text(set_up.first_call_ms)
        if summary.service_ms is not None and summary.service_ms.p50 is not None:
            first += f" ({set_up.first_call_ms / summary.service_ms.p50.value:,.1f}x the median)"
    if set_up.first_ten_ms:
        mean_ms = sum(set_up.first_ten_ms) / len(set_up.first_ten_ms)
        first += f"; a caller's first {len(set_up.first_ten_ms)}: mean {milliseconds_text(mean_ms)}"
    grid.add_row("first call", first)
    grid.add_row("set-up", _set_up(set_up))
    if memory := _memory(result):
        grid.add_row("memory", memory)
    if energy := energy_text(result):
        grid.add_row("energy", energy)
    grid.add_row("harness", _harness(result))
    if result.verification is not None:
        grid.add_row("verified", _verified(result.verification))
    return grid


def _judged(result: RunResult) -> Iterator[tuple[str, str | Text]]:
    """Whether it was steady, and kept its limits."""
    if result.steady is not None:
        yield "steady", _steady(result.steady, result.summary.from_s)
    elif result.load_stages:
        yield "steady", "not asked: the rate changes, so that nothing is cut off"
    for one in result.limits:
        yield "limit", _limit(one, result)


def _limit(one: LimitVerdict, result: RunResult) -> Text:
    """Whether a limit is kept, by which figure, and what it ended."""
    limit, parts = Limit.from_text(one.limit), []
    lost = result.summary.failed_calls + result.summary.unfinished_calls
    if one.value is None and limit.quantile is not None and lost:
        parts.append(f"{lost:,} calls that failed or did not finish are over any limit")
    if one.value is not None:
        between = ""
        if one.low is not None and one.high is not None:
            between = f" ({limit.text_of(one.low)} to {limit.text_of(one.high)})"
        parts.append(f"{limit.text_of(one.value)}{between}")
    if one.stage is not None:
        stages = result.spec.load_stages
        parts.append(f"in stage {one.stage} of {len(stages)}, {stages[one.stage - 1]}")
    if one.broken_at_s is not None:
        parts.append(f"this ended the run after {duration_text(one.broken_at_s)}")
    elif one.verdict == "open" and one.calls_missing:
        parts.append(f"{one.calls_missing:,} more calls like these would say that it is kept")
    style = "bold red" if one.verdict == "broken" else ""
    return Text(f"{limit}: {'; '.join([one.verdict, *parts])}", style=style)


def _throughput(result: RunResult) -> str:
    summary, unit = result.summary, result.spec.unit
    if few := few_calls_text(summary, unit):
        return few
    found = f"{_rate(summary.throughput_calls_per_s)} {unit}s/s"
    items = sorted({*result.spec.items_per_input})
    if items == [1]:
        return found
    each = f"{items[0]:,}" + (f" to {items[-1]:,}" if len(items) > 1 else "")
    return f"{found}, {rate_text(summary.throughput_items_per_s.value)} items/s ({each} a {unit})"


def _drawn(result: RunResult) -> str:
    """That more or fewer calls were due than the rate says, because their times were drawn."""
    found = due_per_s(result)
    draw = by_the_draw(result.spec, found)
    return f"; {rate_text(found)}/s were due {draw}" if found is not None and draw else ""


def _set_up(set_up: SetUp) -> str:
    found = [f"prepare {duration_text(set_up.prepare_s)}"]
    if set_up.load_s is not None and set_up.convert_s is not None:
        rest_s = max(set_up.prepare_s - set_up.load_s - set_up.convert_s, 0.0)
        found = [f"load {duration_text(set_up.load_s)}"]
        found += [f"convert {duration_text(set_up.convert_s)}"] if set_up.convert_s else []
        found.append(f"prepare {duration_text(rest_s)}")
    if set_up.process_s:
        found.insert(0, f"start processes {duration_text(set_up.process_s)}")
    found.append(f"warm up {duration_text(set_up.open_s)}")
    return f"{', '.join(found)}; log {bytes_text(set_up.log_bytes)}"


def _memory(result: RunResult) -> str:
    uses = [one.memory for one in result.processes if one.memory is not None]
    if not uses:
        return ""
    each = "" if len(uses) == 1 else " in the largest process"
    found = f"peak RSS {bytes_text(max(use.peak_rss_bytes for use in uses))}{each}"
    shares = [use.peak_pss_bytes for use in uses if use.peak_pss_bytes is not None]
    if len(shares) == len(uses):
        total = sum(shares) + (result.set_up.nursery_pss_bytes or 0)
        found += f", PSS {bytes_text(total)}{'' if len(uses) == 1 else ' of all together'}"
    growth = [use.growth_bytes_per_1000_calls or 0.0 for use in uses]
    worst = uses[growth.index(max(growth))]
    if max(growth) > 0 and (worst.growth_p or 0.0) < SIGNIFICANT:
        found += f"; grows by {bytes_text(max(growth))} per 1,000 calls"
    return found


def few_calls_text(summary: Summary, unit: str) -> str:
    """The rate of calls that are too few for one, and that they are; nothing of more."""
    count = summary.completed_calls
    if not 0 < count < FEWEST_FOR_A_RATE:
        return ""
    value = float(f"{summary.throughput_calls_per_s.value:.1g}")
    return f"about {value:,.6g} {unit}s/s (of {count_text(count, unit)}: too few for a rate)"


def _rate(estimate: Estimate) -> str:
    shown = rate_text(estimate.value)
    if estimate.low is None or estimate.high is None:
        return shown
    return f"{shown} ({rate_text(estimate.low)} to {rate_text(estimate.high)})"


def _steady(steady: SteadyState, from_s: float) -> str:
    if steady.steady is None:
        return "not known: too few calls"
    drift = "no significant drift"
    if steady.drift_fraction is not None and (steady.drift_p or 0.0) < 0.01:
        drift = f"drift {steady.drift_fraction:+.1%}"
    if not steady.steady:
        return f"no: {drift}; nothing is cut off"
    if not steady.cut_s:
        return f"yes, from the start; {drift}"
    cut = f"the first {duration_text(steady.cut_s)} {'are' if from_s else 'would be'} cut off"
    return f"yes, {cut}; {drift}"


def _harness(result: RunResult) -> str:
    found, service, set_up = [], result.summary.service_ms, result.set_up
    if set_up.floor_ms is not None and set_up.harness_ms is not None:
        text, share = f"empty call {milliseconds_text(set_up.floor_ms)}", ""
        if service is not None:
            few = "" if service.p50 is not None else "~"  # of too few calls to quote it
            share = f"{few}{set_up.harness_ms / service.quantile(0.5):.2%} of the median"
        if set_up.floor_by_hand_ms is not None:  # on a device, where both wait
            text += f", by hand {milliseconds_text(set_up.floor_by_hand_ms)}"
            share = f": the harness takes {share}" if share else ""
        elif share:
            share = f" ({share})"
        found.append(text + share)
    if set_up.counter_off_ns is not None:
        text = f"stamps by the processor's counter, {set_up.counter_off_ns:,} ns off at most"
        if set_up.clock_callers:
            text += f"; {count_text(set_up.clock_callers, 'caller')} went by the clock"
        found.append(text)
    if result.summary.littles_law is not None:
        law, error = result.summary.littles_law, result.summary.littles_law_error
        found.append(
            f"Little's law {law:.3f}" if error is None else f"Little's law {law:.2f} +- {error:.2f}"
        )
    return "; ".join(found) or "not measured"


def _verified(verification: Verification) -> str:
    if verification.reason is not None:
        return f"no: {verification.reason}"
    kept = f"{verification.compared:,} outputs under load"
    if verification.differing:
        why = {
            "input": f": {verification.argument} is used up or written to",
            "shape": ": an output has another shape in a batch",
            "neighbours": ": it depends on the others in the batch",
            "padding": ": it depends on how far it was padded",
            "state": ": calls change the model's state",
            "threads": ": only while other threads call",
        }.get(verification.cause or "", "")
        return f"no: {verification.differing:,} of {kept} differ from those computed alone{why}"
    well = f"yes: {kept} are as computed alone"
    if verification.not_compared:
        well += f"; not compared: {', '.join(verification.not_compared)}"
    return well
