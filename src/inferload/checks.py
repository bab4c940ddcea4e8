"""From what was measured to what is doubtful about it, once a run is over."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from inferload.advice import enough_calls, without_gil
from inferload.distribution import half_width_fraction
from inferload.load_checks import overloaded
from inferload.machine_checks import machine_checks
from inferload.rank_checks import rank_checks
from inferload.records import RunWarning
from inferload.run_options import FRESH_INPUTS
from inferload.units import bytes_text, count_text, milliseconds_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from inferload.call_log import CallFailure
    from inferload.disturbances import Disturbances
    from inferload.records import (
        Ending,
        ProcessFigures,
        RankFigures,
        RunSpec,
        SteadyState,
        Summary,
        Verification,
    )

    _Texts = tuple[str, str, str]

# Less than this in half a run, or 1 % of what is resident, is no leak to speak of.
LEAST_LEAK_BYTES = 4 * 2**20
GIL_FORMS = {"eager", "compile", "export", "callable"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The figures of a run that is over.

    ``made_calls`` and ``failed_calls`` are of the whole run, also of what was cut off; ``errors``
    are the distinct exceptions. ``floor_ms``: what the harness takes of a call. ``run_delay_s``:
    how long all callers together stood in run queues. ``cut_short``: the run ended before its end.
    ``widths_when_ended``: half of the intervals that ended a run by precision, as fractions.
    ``machines``: the environment of the callers, by the name of their machine.
    """

    spec: RunSpec
    summary: Summary
    steady: SteadyState
    disturbances: Disturbances
    made_calls: int
    failed_calls: int = 0
    errors: Sequence[CallFailure] = ()
    floor_ms: float | None = None
    run_delay_s: float = 0.0
    recompiled_graphs: int = 0
    cut_short: bool = False
    widths_when_ended: Mapping[str, float] = field(default_factory=dict)
    disk_full: bool = False
    log_was_full: bool = False
    on_device: bool = False
    verification: Verification | None = None
    processes: Sequence[ProcessFigures] = ()
    ranks: Sequence[RankFigures] = ()
    machines: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def warnings_after(found: Findings) -> list[RunWarning]:
    """What is doubtful about a run once it is over; thresholds as in docs/measuring.md."""
    return [
        RunWarning(code=code, message=message, hint=hint)
        for check in (
            _broken,
            lambda found: rank_checks(found.ranks),
            _unfinished,
            _figures,
            _harness,
            _leak,
            _placement,
            _neighbours,
        )
        for code, message, hint in check(found)
    ]


def _broken(found: Findings) -> Iterator[_Texts]:
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


def _unfinished(found: Findings) -> Iterator[_Texts]:
    """An open loop that the target did not keep up with."""
    spec, summary = found.spec, found.summary
    if summary.overload is not None:
        yield from overloaded(spec, summary.overload)
    if summary.unfinished_calls:
        when = "when the run ended"
        if spec.open_loop and not found.cut_short:
            when = f"within {spec.drain_s:g} s after the last was due"
        yield (
            "unfinished",
            f"{summary.unfinished_calls:,} due calls had not been made {when}",
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


def _figures(found: Findings) -> Iterator[_Texts]:
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


def _harness(found: Findings) -> Iterator[_Texts]:
    """What the harness itself adds."""
    spec, summary, service = found.spec, found.summary, found.summary.service_ms
    if service is None:
        return
    median_ms = service.quantile(0.5)
    floor_ms = found.floor_ms
    if floor_ms is not None and floor_ms > 0.05 * median_ms:
        yield (
            "floor",
            (
                f"the harness takes {milliseconds_text(floor_ms)} of a call, "
                f"{floor_ms / median_ms:.0%} of the median service time"
            ),
            "differences of that size are the harness's: call with larger inputs",
        )
    late = summary.lateness_ms
    if late is not None and late.quantile(0.99) > 0.01 * median_ms:
        python = "threads" in spec.executor.split(" + ")
        late_share = "1 %" if late.p99 is not None else "~1 %"  # of too few calls to quote it
        yield (
            "late",
            (
                f"{late_share} of calls began more than {milliseconds_text(late.quantile(0.99))} "
                f"after a free caller should have begun them "
                f"(median {milliseconds_text(late.quantile(0.5))})"
            ),
            "Python callers wait for the GIL; a guess: "
            + (without_gil(spec) or "fewer Python threads beside them")
            if python
            else "leave a core free: fewer callers or intra-op threads, or a quieter machine",
        )
    gil_ms = found.disturbances.gil_wait_ms
    if GIL_FORMS & set(spec.form.split(" + ")) and gil_ms is not None and gil_ms > 1:
        yield (
            "gil",
            f"a Python thread that asked for the GIL waited {milliseconds_text(gil_ms)} for it",
            "a guess: " + (without_gil(spec) or "fewer Python threads beside the callers"),
        )
    pauses = found.disturbances
    if pauses.gc_longest_ms > max(0.1 * median_ms, 1) or (
        pauses.gc_total_ms > 10 * summary.duration_s
    ):
        yield (
            "gc",
            (
                f"Python's garbage collector ran {pauses.gc_pauses} times, "
                f"{milliseconds_text(pauses.gc_total_ms)} in all and up to "
                f"{milliseconds_text(pauses.gc_longest_ms)} at once"
            ),
            "call gc.freeze() after loading, or gc.disable()",
        )


def _leak(found: Findings) -> Iterator[_Texts]:
    """Memory that grows with the number of calls."""
    for one in found.processes:
        use = one.memory
        if use is None:
            continue
        grown, per_1000 = use.growth_bytes or 0, use.growth_bytes_per_1000_calls or 0.0
        if (use.growth_p or 1.0) < 0.01 and grown > max(LEAST_LEAK_BYTES, use.rss_bytes[-1] // 100):
            which = f" of process {one.process}" if len(found.processes) > 1 else ""
            yield (
                "memory-grows",
                f"memory{which} grows by {bytes_text(per_1000)} per 1,000 calls",
                "a cache without a limit, or a leak: outputs, inputs or graphs that are kept?",
            )
            return


def _threads(found: Findings) -> Iterator[_Texts]:
    """Intra-op threads that callers had, if they are not those that were asked for."""
    asked = found.spec.threads_per_call
    for one in found.processes:
        places = [n for n, threads in enumerate(one.threads) if threads not in {0, asked}]
        if not places:
            continue
        has = one.threads[places[0]]
        was = one.threads_set[places[0]] if places[0] < len(one.threads_set) else has
        who = f"{len(places)} of {len(one.threads)} callers"
        who = who if len(one.threads) > 1 else "its caller"
        who += f" of process {one.process}" if len(found.processes) > 1 else ""
        yield (
            "threads-not-in-force",
            (
                f"a call was to have {count_text(asked, 'intra-op thread')}, and {who} had {has}"
                + (": the model sets it itself" if was == asked else "")
            ),
            f"take torch.set_num_threads out of the model, or --threads-per-call {has}, which is "
            "what it had"
            if was == asked
            else "an environment variable, or a torch built without OpenMP, has the last word",
        )
        return


def _placement(found: Findings) -> Iterator[_Texts]:
    """Settings that were asked for and are not in force."""
    spec = found.spec
    yield from _threads(found)
    for one in found.processes if spec.pin == "cores" else ():
        # processes have cores apart from each other
        cores = set().union(*one.cpus)
        if len(cores) < sum(map(len, one.cpus)):
            fitting = max(round(len(cores) / _threads_of_a_core(found)), 1)
            yield (
                "cores-shared",
                "callers share cores, because there are fewer cores than callers",
                "fewer callers for each of the models"
                if len(spec.callers_by_lane) > 1
                else f"--callers {fitting} gives each its own",
            )
            return


def _threads_of_a_core(found: Findings) -> float:
    """How many hardware threads a core has, of which all go to one caller."""
    known = [
        one["cores"] / one["physical_cores"]
        for one in found.machines.values()
        if one.get("cores") and one.get("physical_cores")
    ]
    return max(known, default=1.0)


def _neighbours(found: Findings) -> Iterator[_Texts]:
    """What others took of the machine."""
    others, summary = found.disturbances, found.summary
    ran_s = summary.from_s + summary.duration_s
    waited_s = found.run_delay_s
    if ran_s > 0 and waited_s > 0.01 * ran_s * found.spec.callers:
        yield (
            "run-queue",
            (
                f"callers stood in run queues for {waited_s / ran_s / found.spec.callers:.1%} of "
                "the run, ready and without a core"
            ),
            "fewer callers or intra-op threads, or fewer other programs",
        )
    if others.throttled_s:
        yield (
            "throttled",
            f"a cgroup quota held the process back for {others.throttled_s:.3g} s",
            "raise the quota (cpu.max), or use fewer threads than it has cores",
        )
    if others.steal_fraction is not None and others.steal_fraction > 0.005:
        yield (
            "steal",
            f"the hypervisor gave {others.steal_fraction:.1%} of the machine's time to others",
            "compare only runs that alternate, or use a machine of your own",
        )
    if not found.on_device:
        yield from machine_checks(found.machines)
