"""From what was measured to what is doubtful about it, once a run is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferload.plan.options import FRESH_INPUTS
from inferload.records.distribution import half_width_fraction
from inferload.records.figures import RunWarning
from inferload.runs.checks.advice import enough_calls
from inferload.runs.checks.conditions import event_loop, harness, leak, neighbours, placement
from inferload.runs.checks.load import overloaded
from inferload.runs.checks.ranks import rank_checks
from inferload.runs.checks.servers import server_checks
from inferload.runs.checks.stages import overloaded_stages
from inferload.units import count_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from inferload.records.figures import Ending, Verification
    from inferload.records.spec import RunSpec
    from inferload.runs.checks.findings import Findings, Texts


def warnings_after(found: Findings) -> list[RunWarning]:
    """What is doubtful about a run once it is over; thresholds as in docs/measuring.md."""
    return [
        RunWarning(code=code, message=message, hint=hint)
        for check in (
            _broken,
            lambda found: rank_checks(found.ranks),
            _unfinished,
            _figures,
            harness,
            event_loop,
            leak,
            placement,
            neighbours,
            server_checks,
        )
        for code, message, hint in check(found)
    ]


def _broken(found: Findings) -> Iterator[Texts]:
    """What went wrong."""
    for one in found.processes:
        if one.ending is None:
            continue
        died = f"{_process_name(found.spec, one.process)} {ending_text(one.ending)}"
        yield (
            "process-died",
            f"{died}; the calls that it had finished are counted",
            "run that input alone, with --no-isolate in a debugger",
        )
    verification = found.verification
    if verification is not None and verification.differing:
        who = _caller_name(found.spec, verification)
        yield (
            "outputs-differ",
            (
                f"{verification.differing:,} of {verification.compared:,} outputs under load "
                f"differ from those computed alone; the worst, {who} on input "
                f"{verification.input}, {verification.how}"
            ),
            _difference_hint(verification),
        )
    if verification is not None and verification.reason:
        yield (
            "not-verified",
            f"outputs could not be verified: {verification.reason}",
            "verify needs a model that repeats itself: eval mode, fixed seeds, no state",
        )
    if found.recompiled_graphs:
        yield (
            "recompiled",
            f"torch.compile made {found.recompiled_graphs} graphs while calls were measured",
            "mark dynamic dimensions, or warm up with every shape (--warmup)",
        )
    if found.errors:
        first = found.errors[0]
        yield (
            "failed-calls",
            (
                f"{found.failed_calls:,} of {found.made_calls:,} calls failed; "
                f"first {first.type}: {first.gist}"
            ),
            "failed calls are counted apart and not in the latencies",
        )
    whole = not (found.cut_short or found.disk_full or found.summary.unfinished_calls)
    if whole and found.made_calls < (found.spec.calls or 0):
        yield (
            "calls-lost",
            f"{found.spec.calls:,} calls were dealt to callers, and {found.made_calls:,} are known",
            "a process that a model forks must not return from its call, it is a caller too then",
        )
    if found.disk_full:
        yield (
            "disk-full",
            "the disk of the call log filled up, which ended the run early",
            "set TMPDIR to a folder with more room, or run for less time",
        )
    if found.log_was_full:
        yield (
            "log-full",
            "callers waited for room in the call log, which the figures show as the harness's",
            "fewer callers, or a free core for the thread that reads the log",
        )


def _difference_hint(found: Verification) -> str:
    """What to do about outputs that differ, by their cause."""
    if found.cause == "input":
        return f"the model uses up or writes to its input ({found.argument}): {FRESH_INPUTS}"
    if found.cause == "shape":
        return (
            "an output has not the batch in dimension 0 (squeeze(), a state with it in dimension "
            "1): have the model return what belongs to a request along dimension 0"
        )
    if found.cause == "neighbours":
        return (
            "what a request gets depends on the others in its batch (batch norm in train mode, a "
            "sum over dimension 0): call eval(), or leave batches (max_batch) out"
        )
    if found.cause == "padding":
        return (
            "what a request gets depends on how far it was padded: pass a mask, and have the model "
            "look at it, or let equal shapes join alone (no --batch-pad)"
        )
    if found.cause == "state":
        return (
            "the model keeps state that calls change (a cache, a counter, a buffer): what it "
            "answers depends on the calls before"
        )
    return "the model is not safe to call from several threads (a buffer or cache they share?)"


def _process_name(spec: RunSpec, process: int) -> str:
    """A process in words, with its rank in a cluster."""
    if spec.ranks == 1:
        return f"process {process}"
    rank, own = divmod(process, spec.processes // spec.ranks)
    return f"rank {rank}" if spec.processes == spec.ranks else f"process {own} of rank {rank}"


def _caller_name(spec: RunSpec, verification: Verification) -> str:
    """The caller whose output was the worst, with its process where there are several."""
    caller = verification.caller or 0
    if spec.processes == 1:
        return f"caller {caller}"
    process, own = divmod(caller, spec.callers_per_process)
    return f"caller {own} of {_process_name(spec, process)}"


def ending_text(ending: Ending) -> str:
    """How a process ended, in words that follow its name."""
    text = ending.how
    if ending.after_s is not None:
        text += f", {ending.after_s:.3g} s after the start"
    if ending.in_flight:
        calls = " and ".join(
            f"caller {caller} was on input {number}" for caller, number in ending.in_flight[:4]
        )
        text += f", while {calls}"
    return text + (f" ({ending.place})" if ending.place else "")


def _unfinished(found: Findings) -> Iterator[Texts]:
    """An open loop that the target did not keep up with."""
    spec, summary = found.spec, found.summary
    behind = tuple(overloaded_stages(spec, found.load_stages))
    yield from behind
    if summary.overload is not None and not behind:
        yield from overloaded(spec, summary.overload)
    if summary.unfinished_calls:
        when = "when the run ended"
        if spec.open_loop and not found.cut_short:
            when = f"within {spec.drain_s:g} s after the last was due"
        yield (
            "unfinished",
            f"{count_text(summary.unfinished_calls, 'due call')} had not been made {when}",
            "they rank as slower than all others; lower the rate, or add callers"
            if summary.overload is None
            else "lower the rate or add callers, as far as [overloaded] says",
        )
    if spec.precision is not None:
        quantile = getattr(summary.response_ms, spec.quantile, None)
        widths = {
            spec.quantile: half_width_fraction(quantile),
            "throughput": half_width_fraction(summary.throughput_calls_per_s),
        }
        if any(width is None or width > spec.precision for width in widths.values()):
            message = (
                f"the run ended at {summary.from_s + summary.duration_s:.3g} s and its figures are "
                f"not within {spec.precision:.2%}: {_widths_text(widths)}"
            )
            if found.widths_when_ended:
                then = _widths_text(found.widths_when_ended)
                last = "calls still due" if spec.open_loop else "last calls of its callers"
                message += f"; it was ended because they were ({then}), and the {last} widened them"
            yield ("not-precise", message, _more_precise(found))


def _widths_text(widths: Mapping[str, float | None]) -> str:
    """Halves of intervals as shares of their figures."""
    return ", ".join(
        f"{name} " + ("not known" if width is None else f"+/- {width:.1%}")
        for name, width in widths.items()
    )


def _more_precise(found: Findings) -> str:
    """How to get figures as precise as they were to be."""
    if found.summary.overload is not None:
        return "a queue that grows never becomes precise: do as [overloaded] says"
    if found.widths_when_ended:
        return "a smaller --precision leaves room for the last calls, which are always waited for"
    return "a longer --time-limit, or a wider --precision"


def _figures(found: Findings) -> Iterator[Texts]:
    """Figures that do not mean what they seem to mean."""
    spec, summary, steady = found.spec, found.summary, found.steady
    response = summary.response_ms
    if steady.steady is False:
        what = "the mean time of a call" if steady.by_time else "its median"
        moved = f"{what} moved by {steady.drift_fraction or 0.0:+.1%}"
        if steady.cut_windows == steady.windows // 2:
            moved = "it had not settled by the middle of the run"
        yield (
            "unsteady",
            f"the run did not become steady: {moved}",
            "its figures depend on when they were taken; run longer, or find what changes"
            if summary.overload is None
            else "the queue grew all the time, and does so in a longer run: see [overloaded]",
        )
    if response is None:
        return
    if not spec.open_loop and response.p99 is not None:
        yield (
            "closed-loop-tail",
            "a closed loop makes no calls while the target stalls, so its tail is too good",
            "quote tails from an open loop: --rate R",
        )
    if spec.quantile in response.more_calls:
        more = response.more_calls[spec.quantile]
        yield (
            "too-few-calls",
            f"{spec.quantile} needs {more:,} more calls like these to be quoted",
            enough_calls(spec, summary, response, spec.quantile),
        )
