"""How a comparison by slices spends its time, and whether calls have slices at all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from inferload.plan.numbers import check_count, check_positive
from inferload.stats.slices.judging import FEWEST_PROCESS_PAIRS
from inferload.studies.records.slices import Timing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from inferload.plan.options import RunOptions
    from inferload.studies.records.comparison import Gate
    from inferload.studies.records.settings import Settings

TIME_LIMIT_S, MOST_S = 120.0, 30 * 86_400.0
MOST_PROCESS_PAIRS = 1000
# A slice: long beside what it takes to begin one, short beside the states of a machine.
SLICE_S, LEAST_SLICE_S = 0.1, 0.025
CALLS_OF_SLICE = 20
FEWEST_SLICES = 4
# Of each pair of processes, so many times as long as it takes to start it is measured.
_MEASURED, _LEAST_MEASURED_S = 1.5, 2.0
# Looks at what there is come no closer than so many pairs.
_LOOK_PAIRS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SlicePlan:
    """What is compared by slices.

    ``precision``: half of the throughput's interval, a fraction, that is precise enough; ``None``:
    as precise as the time allows. ``process_pairs``: so many, whatever time they take.

    Raises:
        PlanError: there are fewer than six pairs of processes, or a figure is out of range.
    """

    a: str
    b: str
    asked: dict[str, Any]
    options: Mapping[str, RunOptions]
    gates: tuple[Gate, ...] = ()
    settings: Mapping[str, Settings] = field(default_factory=dict)
    precision: float | None = None
    time_limit_s: float = TIME_LIMIT_S
    process_pairs: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.precision is not None:
            check_positive("precision", self.precision, at_most=0.5)
        check_positive("time_limit_s", self.time_limit_s, at_most=MOST_S)
        if self.process_pairs is not None:
            check_count(
                "pairs",
                self.process_pairs,
                at_least=FEWEST_PROCESS_PAIRS,
                at_most=MOST_PROCESS_PAIRS,
            )

    @property
    def ends_early(self) -> bool:
        """Whether it may end before its time, so that it is looked at several times."""
        return self.precision is not None or bool(self.gates)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of both sides and the machine once processes were started.

    ``start_s``: how long a pair of them takes beside its slices; ``call_s``: a call of the slower
    side; ``state_s``: how long the machine keeps its pace, if that is known. ``made``: how many
    pairs of processes were made, in ``spent_s``.
    """

    start_s: float
    call_s: float
    state_s: float | None = None
    made: int = 0
    spent_s: float = 0.0


def timed(plan: SlicePlan, known: Known) -> Timing:
    """How to spend the time that is left."""
    start_s, call_s, state_s = known.start_s, known.call_s, known.state_s
    slice_s = SLICE_S
    if state_s is not None and state_s < 2 * SLICE_S:
        slice_s = max(state_s / 2, LEAST_SLICE_S)
    # slower models have fewer calls in a slice, or there would be too few slices
    each_s = plan.time_limit_s / FEWEST_PROCESS_PAIRS - start_s
    room_s = max(each_s / (2 * FEWEST_SLICES), SLICE_S)
    slice_s = max(slice_s, min(CALLS_OF_SLICE * call_s, max(room_s, call_s)))
    both_s = 2 * (slice_s + call_s * (0.5 + warm_up_calls(call_s)))  # the last call goes on
    measured_s = max(_MEASURED * start_s, _LEAST_MEASURED_S, FEWEST_SLICES * both_s)
    pairs = plan.process_pairs
    if pairs is None:
        left_s = max(plan.time_limit_s - known.spent_s, 0.0)
        more = max(int(left_s / (start_s + measured_s)), FEWEST_PROCESS_PAIRS - known.made, 1)
        pairs = known.made + more
        measured_s = max(left_s / more - start_s, FEWEST_SLICES * both_s)
    return Timing(
        slice_s=slice_s,
        slices=max(int(measured_s / both_s), FEWEST_SLICES),
        pairs=pairs,
        looks=looks_at(pairs) if plan.ends_early else (pairs,),
    )


def warm_up_calls(call_s: float) -> int:
    """How many calls warm a slice: caches that a long call fills by itself need none."""
    return 1 if call_s < SLICE_S / 2 else 0


def looks_at(pairs: int) -> tuple[int, ...]:
    """After how many pairs of processes it is looked whether they are enough.

    >>> looks_at(12)
    (6, 8, 10, 12)
    >>> looks_at(7)
    (7,)
    """
    first = range(FEWEST_PROCESS_PAIRS, pairs - _LOOK_PAIRS + 1, _LOOK_PAIRS)
    return (*first, pairs)


_WHY_NOT: tuple[tuple[Callable[[RunOptions], bool], str], ...] = (
    (lambda one: one.of_server, "a server has no slices: what it has queued goes on"),
    (
        lambda one: not isinstance(one.executor, str),
        "an executor of your own runs in this process",
    ),
    (lambda one: one.load.open_loop, "calls of an open loop are due whoever's turn it is"),
    (
        lambda one: one.batching is not None or getattr(one.load, "clients", None) is not None,
        "a queue of requests does not end with a slice",
    ),
    (lambda one: bool(one.lanes), "models with callers of their own are called at once"),
    (
        lambda one: (one.processes or 1) * one.ranks > 1 or one.executor == "processes",
        "callers are in several processes",
    ),
    (lambda one: one.verify, "outputs are verified call by call"),
)


def why_not(options: Sequence[RunOptions]) -> str | None:
    """Why two sides cannot be called by slices, in words; ``None`` if they can."""
    return next((why for is_so, why in _WHY_NOT if any(map(is_so, options))), None)
