"""How two models are compared: by slices if their calls have some, else by whole runs in turn."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from inferload.errors import InferloadError, PlanError
from inferload.log.failures import is_out_of_memory
from inferload.records.endings import TargetCrashed
from inferload.stats.pairs import FEWEST_PAIRS
from inferload.studies.compare import ComparePlan, run_pairs
from inferload.studies.slices.compare import run_slices
from inferload.studies.slices.plan import MOST_S, TIME_LIMIT_S, SlicePlan, why_not

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from inferload.plan.options import RunOptions
    from inferload.studies.bench import Bench, StudyObserver
    from inferload.studies.records.comparison import Comparison, Gate
    from inferload.studies.records.settings import Settings
    from inferload.studies.slices.engine import SliceBench


NO_ROOM = "both models at once have no room in memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How long, and how exactly, two models are compared; ``None`` where nobody said."""

    pairs: int | None = None
    precision: float | None = None
    time_limit_s: float | None = None
    gates: tuple[Gate, ...] = ()

    @property
    def told(self) -> dict[str, object]:
        """What tells one comparison from another, as it is written into a file."""
        return {
            "pairs": self.pairs,
            "precision": self.precision,
            "time_limit_s": self.time_limit_s,
            "gates": list(map(str, self.gates)),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """What is compared: ``names``, ``options`` and ``settings`` by ``"a"`` and ``"b"``.

    ``whole``: runs of a length of their own were asked for. ``peak_pairs``: as of a
    :class:`~inferload.studies.compare.ComparePlan`.
    """

    names: Mapping[str, str]
    options: Mapping[str, RunOptions]
    asked: dict[str, Any]
    settings: Mapping[str, Settings] = field(default_factory=dict)
    whole: bool = False
    peak_pairs: int = 0

    def why_runs(self) -> str | None:
        """Why whole runs are to be made, in words; ``None``: the sides are called by slices."""
        found = why_not([*self.options.values()])
        if found is None and self.whole:
            found = "runs of a length of their own were asked for"
        return found


def _time_limit_s(how: How) -> float:
    """How long it may take; pairs that were asked for take what they take, if nobody says."""
    if how.time_limit_s is not None:
        return how.time_limit_s
    return TIME_LIMIT_S if how.pairs is None else MOST_S


def _has_no_room(error: InferloadError) -> bool:
    """Whether a side failed because there was no memory for it beside the other."""
    killed = isinstance(error, TargetCrashed) and signal.Signals.SIGKILL.name in str(error)
    return killed or is_out_of_memory(str(error))


def compare_sides(
    sides: Sides,
    how: How,
    observer: StudyObserver,
    *,
    benches: Callable[[], Mapping[str, Bench]],
    sliced: Callable[[], Mapping[str, SliceBench]],
    outputs: Callable[[], tuple[bool, str]],
    done: Comparison | None = None,
    keep: Callable[[Comparison], None] = lambda _: None,
) -> Comparison:
    """Compare two sides; ``benches`` makes whole runs of them, ``sliced`` slices.

    Raises:
        PlanError: what is of slices was asked of whole runs.
        InferloadError: a run failed.
        StudyInterrupted: Ctrl-C; its ``study`` has what was done until then.
    """
    why_runs = sides.why_runs()
    if why_runs is None and done is not None and not done.slices:
        why_runs = done.why_runs or None  # there was no room, and runs were made
    common: dict[str, Any] = {
        "a": sides.names["a"],
        "b": sides.names["b"],
        "asked": sides.asked,
        "settings": sides.settings,
        "gates": how.gates,
    }
    if why_runs is None:
        plan = SlicePlan(
            **common,
            options=sides.options,
            precision=how.precision,
            time_limit_s=_time_limit_s(how),
            process_pairs=how.pairs,
            seed=sides.options["a"].seed,
        )
        made = [] if done is None else [*done.slices]

        def keep_and_note(study: Comparison) -> None:
            made[:] = study.slices
            keep(study)

        try:
            return run_slices(
                plan, sliced(), observer, outputs=outputs, done=done, keep=keep_and_note
            )
        except InferloadError as error:
            if made or not _has_no_room(error):
                raise
            why_runs = NO_ROOM
            pairs = max(how.pairs or FEWEST_PAIRS, FEWEST_PAIRS)
            observer.found(
                f"{error}. {NO_ROOM.capitalize()}: {pairs} pairs of whole runs are made instead, "
                "whatever time they take"
            )
            how, done = replace(how, precision=None, time_limit_s=None, pairs=pairs), None
    elif why_runs == NO_ROOM:
        pairs = max(how.pairs or FEWEST_PAIRS, FEWEST_PAIRS)
        how = replace(how, precision=None, time_limit_s=None, pairs=pairs)
    for name, value in (("precision", how.precision), ("time_limit_s", how.time_limit_s)):
        if value is not None:
            raise PlanError(
                f"{name} (--{name.removesuffix('_s').replace('_', '-')}) is of comparisons by "
                f"slices, and whole runs are made here, because {why_runs}: say how many pairs of "
                "them (--pairs) and how long each is (--duration)"
            )
    runs = ComparePlan(
        **common,
        options=sides.options["a"],
        options_b=sides.options["b"],
        pairs=FEWEST_PAIRS if how.pairs is None else how.pairs,
        peak_pairs=sides.peak_pairs,
        why_runs=why_runs,
    )
    return run_pairs(runs, benches(), observer, outputs=outputs, done=done, keep=keep)
