"""Comparing two results, or two models that are run in turn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from inferload.bench import Logging
from inferload.errors import PlanError
from inferload.loads import ClosedLoop
from inferload.pairs import FEWEST_PAIRS
from inferload.records import RunResult
from inferload.storage import load_result
from inferload.studies.bench import LocalBench
from inferload.studies.compare import ComparePlan, compared_results, run_pairs
from inferload.studies.comparison import gate_from_text
from inferload.studies.files import save_study
from inferload.studies.named import options_of, words_of
from inferload.studies.outputs import told_apart
from inferload.studies.records import Comparison, Gate
from inferload.studies.resuming import Keeper
from inferload.targets.load import as_target

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from inferload.loads import OpenLoop
    from inferload.studies.settings import StudyObserver

DEFAULT_RUN_S = 3.0


def compare(
    a: object,
    b: object,
    inputs: object = None,
    *,
    gates: Iterable[str | Gate] = (),
    pairs: int = FEWEST_PAIRS,
    load: ClosedLoop | OpenLoop | None = None,
    save: str | os.PathLike[str] | None = None,
    observer: StudyObserver | None = None,
    **options: Any,
) -> Comparison:
    """Say whether B is faster or slower than A, and by how much.

    Two results (``RunResult``, or the path of a saved one) are compared by their own intervals.
    Two models are run in turn, A B B A, on the same inputs, each run in a process of its own.

    Args:
        a: a result, or a model as for :func:`inferload.run`.
        b: what is compared with it, of the same kind.
        inputs: of models: as for :func:`inferload.run`.
        gates: how much worse B may be, such as ``"p99 +5%"`` or ``"throughput -3%"``.
        pairs: of models: how often each is run; 10 or more.
        load: of models: the load of every run; one caller in a closed loop if not given.
        save: where to write the comparison, of models after every run; one that was interrupted
            goes on.
        observer: is told of stages and progress.
        options: of models: further options of :func:`inferload.run`; ``duration_s`` is 3 s if no
            end is given, and ``processes=1``.

    Raises:
        PlanError: they cannot be compared.
        CallError, TargetCrashed: a run failed.
        StudyInterrupted: Ctrl-C; its ``study`` has what was done until then.
    """
    read = tuple(one if isinstance(one, Gate) else gate_from_text(one) for one in gates)
    both = [_result_of(one) for one in (a, b)]
    if both[0] is not None and both[1] is not None:
        if inputs is not None or options:
            raise PlanError("results have inputs and options already: leave them out")
        names = (_name_of(a, "A"), _name_of(b, "B"))
        found = compared_results(both[0], both[1], names, read)
        if save is not None:
            save_study(found, save)
        return found
    if both != [None, None]:
        raise PlanError("a result and a model cannot be compared: give two of a kind")
    if not {"calls", "duration_s", "precision"} & set(options):
        options["duration_s"] = DEFAULT_RUN_S
    if options.get("executor", "auto") in {"auto", "threads", "native"}:
        options.setdefault("processes", 1)
    targets = {"a": as_target(a), "b": as_target(b)}
    asked = {
        "a": targets["a"].name,
        "b": targets["b"].name,
        "pairs": pairs,
        "gates": list(map(str, read)),
        "options": words_of(options),
    }
    plan = ComparePlan(
        a=f"{targets['a'].name} ({targets['a'].form})",
        b=f"{targets['b'].name} ({targets['b'].form})",
        asked=asked,
        options=options_of(options, load or ClosedLoop()),
        pairs=pairs,
        gates=read,
    )
    keeper = Keeper(None if save is None else Path(save), Comparison, asked)
    benches = {side: LocalBench.of_model(target, inputs) for side, target in targets.items()}
    return run_pairs(
        plan,
        benches,
        observer or Logging(),
        outputs=lambda: told_apart(benches["a"].outputs(), benches["b"].outputs()),
        done=keeper.done,
        keep=keeper.keep,
    )


def _result_of(one: object) -> RunResult | None:
    if isinstance(one, RunResult):
        return one
    if isinstance(one, str | Path) and str(one).endswith(".json"):
        return load_result(one)
    return None


def _name_of(one: object, otherwise: str) -> str:
    return otherwise if isinstance(one, RunResult) else str(one)
