"""Two sides compared by runs of both that alternate.

Two runs one after the other differ by whatever the machine did meanwhile. Runs that alternate, A B
B A, each in a process of its own, share it, and what processes differ by is noise between them.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from inferload.errors import InferloadError, PlanError
from inferload.plan.arrivals.loads import ClosedLoop
from inferload.plan.numbers import check_count
from inferload.plan.server import is_served
from inferload.stats.failures import more_fail
from inferload.stats.pairs import FEWEST_PAIRS
from inferload.studies.differences import judged_gate, of_pairs
from inferload.studies.records.comparison import CANNOT_TELL, KEPT, Comparison
from inferload.studies.records.endings import StudyInterrupted
from inferload.studies.records.settings import Settings, StudyRun, unit_of
from inferload.studies.same_model import other_content, other_model
from inferload.studies.spoiled import spoiled
from inferload.units import duration_text, milliseconds_text, rate_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from inferload.plan.options import RunOptions
    from inferload.records.result import RunResult
    from inferload.records.spec import RunSpec
    from inferload.studies.bench import Bench, StudyObserver
    from inferload.studies.records.comparison import Difference, Gate

# What says how calls are made in this process.
_OF_CALLS = ("executor", "threads_per_call", "autocast", "grad_mode", "timeout_s", "on_error")
MOST_PAIRS = 1000
PEAK_PAIRS = 4
# What is told where it differs between two sides, beside options that have no field of their own.
_SPEC = (
    "form", "executor", "load", "callers", "processes", "ranks", "rate_per_s", "threads_per_call",
    "items_per_input", "autocast", "grad_mode", "pin", "devices", "streams", "completion",
    "transfers", "share_inputs", "fresh_inputs", "drawn",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparePlan:
    """What is compared in pairs.

    Raises:
        PlanError: there are fewer than ten pairs.
    """

    a: str
    b: str
    asked: dict[str, Any]
    options: RunOptions
    pairs: int = FEWEST_PAIRS
    gates: tuple[Gate, ...] = ()
    #: Those of B, where a server of it takes other ones than a model here.
    options_b: RunOptions | None = None
    #: How many pairs of runs in a closed loop say the highest rate of each side.
    peak_pairs: int = 0
    #: What runs of a side are made with, where both have one bench.
    settings: Mapping[str, Settings] = field(default_factory=dict)
    #: Why they are not called by slices, in words.
    why_runs: str = ""

    def __post_init__(self) -> None:
        check_count("pairs", self.pairs, at_least=FEWEST_PAIRS, at_most=MOST_PAIRS)

    @property
    def order(self) -> list[str]:
        """Which side is run when: A B, B A, A B, ..."""
        return in_turn(self.pairs)

    def options_of(self, side: str) -> RunOptions:
        """The options of a side's runs."""
        return self.options_b if side == "b" and self.options_b is not None else self.options


def in_turn(pairs: int) -> list[str]:
    """The sides of so many pairs: A B, B A, A B, ..."""
    return [side for pair in range(pairs) for side in ("ab" if pair % 2 == 0 else "ba")]


def run_pairs(
    plan: ComparePlan,
    benches: Mapping[str, Bench],
    observer: StudyObserver,
    *,
    outputs: Callable[[], tuple[bool, str]],
    done: Comparison | None = None,
    keep: Callable[[Comparison], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> Comparison:
    """Make the runs of both sides that are not ``done`` yet, and compare them.

    ``outputs`` says whether both sides compute the same, and that in words; it is asked first.

    Raises:
        InferloadError: a run failed: there is no comparison without it.
        StudyInterrupted: Ctrl-C; its ``study`` has what was done until then.
    """
    runs = [] if done is None else list(done.runs)
    peaks = [] if done is None else list(done.peaks)
    environment = {} if done is None else done.environment
    order, peak_order = plan.order, in_turn(plan.peak_pairs)
    same = (True, "") if done is None else (done.outputs_alike, done.outputs)
    try:
        if not same[1]:
            same = told_outputs(outputs, observer)
        skipped = len(runs)
        took_s = {"a": 0.0, "b": 0.0}
        for place in range(len(runs), len(order)):
            side = order[place]
            left = ""
            if place > skipped:
                left = f", {_left_text(took_s, order[place:], order[skipped:place])} left"
            name = plan.a if side == "a" else plan.b
            observer.begins(f"run {place + 1} of {len(order)}{left}: {side.upper()}, {name}")
            settings, began = plan.settings.get(side, Settings()), clock()
            result = _run_of(plan, benches, side, plan.options_of(side), observer)
            environment = environment or result.environment
            runs.append(StudyRun.of(settings, result, block=place // 2))
            check_alike(runs)
            observer.found(f"{side.upper()}: {figures_text(runs[-1])}")
            took_s[side] += clock() - began
            keep(_compared(plan, runs, "interrupted", environment, same))
        for place in range(len(peaks), len(peak_order)):
            side = peak_order[place]
            observer.begins(
                f"highest rate, run {place + 1} of {len(peak_order)}: {side.upper()}, "
                f"{plan.a if side == 'a' else plan.b}"
            )
            result = _run_of(plan, benches, side, at_the_peak(plan.options_of(side)), observer)
            peaks.append(StudyRun.of(Settings(), result, block=place // 2))
            observer.found(f"{side.upper()}: {figures_text(peaks[-1])}")
            keep(_compared(plan, runs, "interrupted", environment, same, peaks))
    except KeyboardInterrupt as interrupt:
        study = _compared(plan, runs, "interrupted", environment, same, peaks)
        keep(study)
        raise StudyInterrupted(
            f"interrupted after {len(runs) + len(peaks)} of {len(order) + len(peak_order)} runs",
            study=study,
        ) from interrupt
    study = _compared(plan, runs, "complete", environment, same, peaks)
    keep(study)
    return study


def told_outputs(
    outputs: Callable[[], tuple[bool, str]], observer: StudyObserver
) -> tuple[bool, str]:
    """Whether both sides compute the same, which the observer is told as well."""
    observer.begins("comparing outputs")
    same = outputs()
    observer.found(f"outputs: {same[1]}")
    return same


def _run_of(
    plan: ComparePlan,
    benches: Mapping[str, Bench],
    side: str,
    options: RunOptions,
    observer: StudyObserver,
) -> RunResult:
    """One run of a side."""
    with said_of(side, plan.a if side == "a" else plan.b):
        result = benches[side].run(plan.settings.get(side, Settings()), options, observer)
        if not result.summary.completed_calls:
            raise InferloadError("every call failed")
    return result


def peak_pairs(models: Sequence[object], options: RunOptions) -> int:
    """How many pairs of runs say the highest rates: where an open loop does not, of a server."""
    served = [*map(is_served, models)]
    fixed = options.load.open_loop and options.load.recording is None
    return PEAK_PAIRS if fixed and served[0] != served[1] else 0


def at_the_peak(options: RunOptions) -> RunOptions:
    """As many callers that call again as soon as they are free."""
    clients = None if options.batching is None else 2 * options.batching.max_batch
    return replace(options, load=ClosedLoop(callers=options.load.callers, clients=clients))


@contextmanager
def said_of(side: str, name: str) -> Iterator[None]:
    """Let whatever fails say whose failure it is; ``side`` is ``"a"`` or ``"b"``."""
    try:
        yield
    except InferloadError as error:
        error.args = (f"{side.upper()}, {name}: {error}", *error.args[1:])
        error.side = side
        raise


def _left_text(took_s: Mapping[str, float], to_come: list[str], made: list[str]) -> str:
    """How long the runs to come take, each side as its runs took so far."""
    each = {side: took_s[side] / max(made.count(side), 1) for side in "ab"}
    longest = max(each.values())
    return duration_text(sum(each[side] or longest for side in to_come))


def check_alike(runs: Sequence[StudyRun]) -> None:
    """Refuse two sides that are called with different inputs.

    Raises:
        PlanError: saying what differs.
    """
    specs = [one.spec for one in runs[:2] if one.spec is not None]
    batched = any(one.settings.batch_size is not None for one in runs[:2])
    given = [", ".join(one.inputs) for one in specs]
    if len(set(given)) > 1 and not batched:
        first, second = given
        raise PlanError(
            f"A and B are called with different inputs ({first}; {second}): give the same to both"
        )


def figures_text(run: StudyRun) -> str:
    """The figures of a run that returned something, in a few words."""
    if run.summary is None:
        return ""
    text = f"{rate_text(run.summary.throughput_calls_per_s.value)} {unit_of([run])}/s"
    p50 = None if run.summary.response_ms is None else run.summary.response_ms.p50
    return text if p50 is None else f"{text}, p50 {milliseconds_text(p50.value)}"


def _compared(
    plan: ComparePlan,
    runs: Sequence[StudyRun],
    status: str,
    environment: dict[str, Any],
    same: tuple[bool, str],
    peaks: Sequence[StudyRun] = (),
) -> Comparison:
    sides = tuple(plan.order[: len(runs)])
    by_side: dict[str, list[StudyRun]] = {"a": [], "b": []}
    for side, run in zip(sides, runs, strict=True):
        by_side[side].append(run)
    whole = min(map(len, by_side.values()))
    summaries = {
        side: [one.summary for one in own[:whole] if one.summary is not None]
        for side, own in by_side.items()
    }
    differences = of_pairs(summaries["a"], summaries["b"]) if whole >= FEWEST_PAIRS else ()
    failed = Failed(failed_calls(by_side["a"]), failed_calls(by_side["b"]))
    unlike: tuple[str, ...] = ()
    if by_side["a"] and by_side["b"]:
        first = (by_side["a"][0].spec, by_side["b"][0].spec)
        unlike = (*unlike_models(*first), *unlike_specs(*first))
    return Comparison(
        a=plan.a,
        b=plan.b,
        asked=plan.asked,
        status=status,
        differences=differences,
        gates=judged(plan.gates, differences, more_fail=failed.more),
        unlike=unlike,
        sides=sides,
        runs=tuple(runs),
        outputs=same[1],
        outputs_alike=same[0],
        failed_fractions=failed.fractions,
        more_fail=failed.more,
        environment=environment,
        warnings=spoiled(runs),
        peaks=tuple(peaks),
        peak_sides=tuple(in_turn(plan.peak_pairs)[: len(peaks)]),
        why_runs=plan.why_runs,
    )


@dataclass(frozen=True, slots=True)
class Failed:
    """How many calls of A and of B failed or did not finish, each of how many."""

    a: tuple[int, int]
    b: tuple[int, int]

    @property
    def fractions(self) -> tuple[float, float]:
        """Of the calls of each side."""
        a, b = (failed / max(made, 1) for failed, made in (self.a, self.b))
        return a, b

    @property
    def more(self) -> bool:
        """Whether more of B's do, beyond chance."""
        return more_fail(self.a, self.b)


def failed_calls(runs: Sequence[StudyRun]) -> tuple[int, int]:
    """How many of the calls of runs failed, or did not finish, and how many there were."""
    summaries = [one.summary for one in runs if one.summary is not None]
    failed = sum(one.failed_calls + one.unfinished_calls for one in summaries)
    return failed, failed + sum(one.completed_calls for one in summaries)


def judged(
    gates: Sequence[Gate], differences: Sequence[Difference], *, more_fail: bool
) -> tuple[tuple[Gate, str], ...]:
    """Each gate, and what came of it; none is kept by a B of which more calls fail than of A."""
    found = [(gate, judged_gate(gate, differences)) for gate in gates]
    if more_fail:
        found = [(gate, CANNOT_TELL if what == KEPT else what) for gate, what in found]
    return tuple(found)


def unlike_models(a: RunSpec | None, b: RunSpec | None) -> tuple[str, ...]:
    """First of all that two runs are not of one model, though it may have one name."""
    if a is None or b is None:
        return ()
    if (other := other_model(a, b)) is not None:
        return (f"the model: {other}",)
    found = other_content(a, b)
    return () if found is None else (f"the model: {found}",)


def unlike_specs(a: RunSpec | None, b: RunSpec | None) -> tuple[str, ...]:
    """How the settings of two runs differ, one of them in a sentence each."""
    if a is None or b is None:
        return ()
    known = {one.name for one in fields(a)}
    of_a, of_b = (
        {name: getattr(spec, name) for name in _SPEC if name in known} | spec.more
        for spec in (a, b)
    )
    # how a server calls its model is not known here
    hidden = _OF_CALLS if bool(a.servers) != bool(b.servers) else ()
    return tuple(
        f"{name.replace('_', ' ')}: {of_a.get(name)} -> {of_b.get(name)}"
        for name in of_a | of_b
        if of_a.get(name) != of_b.get(name) and name not in hidden
    )
