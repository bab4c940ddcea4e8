"""Two sides compared: two results that were saved, or runs of both that alternate.

Two runs one after the other differ by whatever the machine did meanwhile. Runs that alternate, A B
B A, each in a process of its own, share it, and what processes differ by is noise between them.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from inferload.errors import InferloadError, PlanError
from inferload.plan.numbers import check_count
from inferload.stats.pairs import FEWEST_PAIRS
from inferload.studies.differences import judged_gate, of_pairs, of_summaries
from inferload.studies.records.comparison import Comparison
from inferload.studies.records.endings import StudyInterrupted
from inferload.studies.records.settings import Settings, StudyRun, unit_of
from inferload.studies.same_model import other_content, other_model
from inferload.studies.spoiled import CODES, spoiled
from inferload.units import duration_text, milliseconds_text, rate_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from inferload.plan.options import RunOptions
    from inferload.records.figures import RunWarning
    from inferload.records.result import RunResult
    from inferload.records.spec import RunSpec
    from inferload.studies.bench import Bench, StudyObserver
    from inferload.studies.records.comparison import Difference, Gate

MOST_PAIRS = 1000
# What is told where it differs between two sides, beside options that have no field of their own.
_SPEC = (
    "form", "executor", "load", "callers", "processes", "ranks", "rate_per_s", "threads_per_call",
    "items_per_input", "autocast", "grad_mode", "pin", "devices", "streams", "completion",
    "transfers", "share_inputs", "fresh_inputs", "drawn",
)  # fmt: skip
_ENVIRONMENT = (
    "cpu", "cores", "usable_cores", "devices", "torch", "python", "cpu_capability", "allocator",
    "variables", "governor", "turbo",
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
    #: What runs of a side are made with, where both have one bench.
    settings: Mapping[str, Settings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_count("pairs", self.pairs, at_least=FEWEST_PAIRS, at_most=MOST_PAIRS)

    @property
    def order(self) -> list[str]:
        """Which side is run when: A B, B A, A B, ..."""
        return [side for pair in range(self.pairs) for side in ("ab" if pair % 2 == 0 else "ba")]


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
    environment = {} if done is None else done.environment
    order = plan.order
    same = (True, "") if done is None else (done.outputs_alike, done.outputs)
    try:
        if not same[1]:
            observer.begins("comparing outputs")
            same = outputs()
            observer.found(f"outputs: {same[1]}")
        skipped = len(runs)
        took_s = {"a": 0.0, "b": 0.0}
        for place in range(len(runs), len(order)):
            side = order[place]
            left = ""
            if place > skipped:
                left = f", {_left_text(took_s, order[place:], order[skipped:place])} left"
            name = plan.a if side == "a" else plan.b
            observer.begins(f"run {place + 1} of {len(order)}{left}: {side.upper()}, {name}")
            settings = plan.settings.get(side, Settings())
            began = clock()
            with said_of(f"{side.upper()}, {name}"):
                result = benches[side].run(settings, plan.options, observer)
                if not result.summary.completed_calls:
                    raise InferloadError("every call failed")
            environment = environment or result.environment
            runs.append(StudyRun.of(settings, result, block=place // 2))
            check_alike(runs)
            observer.found(f"{side.upper()}: {figures_text(runs[-1])}")
            took_s[side] += clock() - began
            keep(_compared(plan, runs, "interrupted", environment, same))
    except KeyboardInterrupt as interrupt:
        study = _compared(plan, runs, "interrupted", environment, same)
        keep(study)
        raise StudyInterrupted(
            f"interrupted after {len(runs)} of {len(order)} runs", study=study
        ) from interrupt
    study = _compared(plan, runs, "complete", environment, same)
    keep(study)
    return study


@contextmanager
def said_of(side: str) -> Iterator[None]:
    """Let whatever fails say whose failure it is."""
    try:
        yield
    except InferloadError as error:
        error.args = (f"{side}: {error}", *error.args[1:])
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
    failed = (_failed_fraction(by_side["a"]), _failed_fraction(by_side["b"]))
    unlike: tuple[str, ...] = ()
    if by_side["a"] and by_side["b"]:
        first = (by_side["a"][0].spec, by_side["b"][0].spec)
        unlike = (*_unlike_models(*first), *_unlike_specs(*first))
    return Comparison(
        a=plan.a,
        b=plan.b,
        asked=plan.asked,
        status=status,
        differences=differences,
        gates=_judged(plan.gates, differences, failed),
        unlike=unlike,
        sides=sides,
        runs=tuple(runs),
        outputs=same[1],
        outputs_alike=same[0],
        failed_fractions=failed,
        environment=environment,
        warnings=spoiled(runs),
    )


def compared_results(
    a: RunResult, b: RunResult, names: tuple[str, str], gates: Sequence[Gate] = ()
) -> Comparison:
    """Compare two results by their own intervals.

    Raises:
        PlanError: they are of different models, inputs or loads, or one did not come to its end.
    """
    if a.run_id == b.run_id:
        raise PlanError(f"{names[0]} and {names[1]} are one and the same run")
    for result, name in zip((a, b), names, strict=True):
        if result.status != "complete":
            raise PlanError(f"{name} is a run that {result.status}: run it again")
    if a.spec.target != b.spec.target:
        raise PlanError(
            f"{names[0]} is of {a.spec.target} and {names[1]} of {b.spec.target}: results of "
            "different models cannot be compared"
        )
    for what, one, other in (
        ("inputs", a.spec.inputs, b.spec.inputs),
        ("models", [m.name for m in a.spec.models], [m.name for m in b.spec.models]),
        ("kind of load", _kind(a.spec), _kind(b.spec)),
        ("rate", a.spec.rate_per_s, b.spec.rate_per_s),
    ):
        if one != other:
            raise PlanError(
                f"{names[0]} and {names[1]} cannot be compared: their {what} differ ({one} and "
                f"{other})"
            )
    if gates and (other := other_model(a.spec, b.spec)) is not None:
        raise PlanError(
            f"{other} ({names[0]} and {names[1]}), and a gate is about one model: leave it out to "
            "see how they differ, or gate the models themselves, in pairs (inferload compare "
            "A.py B.py)"
        )
    differences = of_summaries(a.summary, b.summary)
    environment = [
        f"{name}: {a.environment.get(name)} -> {b.environment.get(name)}"
        for name in _ENVIRONMENT
        if a.environment.get(name) != b.environment.get(name)
    ]
    runs = tuple(StudyRun.of(Settings(), one) for one in (a, b))
    failed = (_failed_fraction(runs[:1]), _failed_fraction(runs[1:]))
    warnings: dict[str, RunWarning] = {}
    for result in (a, b):
        warnings |= {one.code: one for one in result.warnings if one.code in CODES}
    return Comparison(
        a=names[0],
        b=names[1],
        asked={"results": [a.run_id, b.run_id]},
        status="complete",
        differences=differences,
        gates=_judged(gates, differences, failed),
        unlike=(*_unlike_models(a.spec, b.spec), *environment, *_unlike_specs(a.spec, b.spec)),
        sides=("a", "b"),
        runs=runs,
        failed_fractions=failed,
        environment={} if environment else b.environment,
        warnings=tuple(warnings.values()),
    )


def _failed_fraction(runs: Sequence[StudyRun]) -> float:
    summaries = [one.summary for one in runs if one.summary is not None]
    failed = sum(one.failed_calls + one.unfinished_calls for one in summaries)
    return failed / max(failed + sum(one.completed_calls for one in summaries), 1)


def _judged(
    gates: Sequence[Gate], differences: Sequence[Difference], failed: tuple[float, float]
) -> tuple[tuple[Gate, str], ...]:
    """Each gate, and what came of it; none is held by a B that fails more calls than A."""
    found = [(gate, judged_gate(gate, differences)) for gate in gates]
    if failed[1] > failed[0]:
        found = [(gate, "open" if what == "held" else what) for gate, what in found]
    return tuple(found)


def _kind(spec: RunSpec) -> str:
    return "open loop" if spec.open_loop else "closed loop"


def _unlike_models(a: RunSpec | None, b: RunSpec | None) -> tuple[str, ...]:
    """First of all that two runs are not of one model, though it may have one name."""
    if a is None or b is None:
        return ()
    if (other := other_model(a, b)) is not None:
        return (f"the model: {other}",)
    found = other_content(a, b)
    return () if found is None else (f"the model: {found}",)


def _unlike_specs(a: RunSpec | None, b: RunSpec | None) -> tuple[str, ...]:
    """How the settings of two runs differ, one of them in a sentence each."""
    if a is None or b is None:
        return ()
    known = {one.name for one in fields(a)}
    of_a, of_b = (
        {name: getattr(spec, name) for name in _SPEC if name in known} | spec.more
        for spec in (a, b)
    )
    return tuple(
        f"{name.replace('_', ' ')}: {of_a.get(name)} -> {of_b.get(name)}"
        for name in of_a | of_b
        if of_a.get(name) != of_b.get(name)
    )
