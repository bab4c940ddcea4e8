"""Comparing two results, or two models that are run in turn."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inferload.errors import PlanError
from inferload.files import as_path, is_there
from inferload.plan.arrivals.loads import ClosedLoop
from inferload.plan.server import OF_MODELS_HERE, is_served
from inferload.records.result import RunResult
from inferload.runs.run import Logging
from inferload.runs.saved import load_result
from inferload.studies.child.fresh import in_fresh_processes
from inferload.studies.compare import peak_pairs
from inferload.studies.compare_results import compared_results
from inferload.studies.differences import gate_from_text
from inferload.studies.keeping import StudyKeeper, check_kind, keep
from inferload.studies.local.bench import LocalBench
from inferload.studies.local.options import as_written, fingerprint, options_of
from inferload.studies.local.outputs import told_apart
from inferload.studies.records.comparison import Comparison, Gate
from inferload.studies.records.settings import Settings
from inferload.studies.slices.sides import How, Sides, compare_sides
from inferload.targets.loading import target_and_inputs

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from inferload.plan.arrivals.loads import OpenLoop
    from inferload.plan.options import RunOptions
    from inferload.studies.bench import StudyObserver
    from inferload.targets.base import Target
    from inferload.targets.inputs.call_input import CallInput

DEFAULT_RUN_S = 3.0
_OF_MODELS_HERE = {*OF_MODELS_HERE, "batching"}


def compare(
    a: object,
    b: object = None,
    inputs: object = None,
    *,
    forms: Sequence[str] | None = None,
    gates: str | Gate | Iterable[str | Gate] = (),
    pairs: int | None = None,
    precision: float | None = None,
    time_limit_s: float | None = None,
    load: ClosedLoop | OpenLoop | None = None,
    save: str | os.PathLike[str] | None = None,
    observer: StudyObserver | None = None,
    **options: Any,
) -> Comparison:
    """Say whether B is faster or slower than A, and by how much.

    Two results (``RunResult``, or the path of a saved one) are compared by their own intervals.
    Two models stay loaded and are called in turn by short slices, on the same inputs and cores, in
    pairs of fresh processes. Where their calls have no slices (open loops, servers, queues, several
    processes), or are asked for by ``calls`` or ``duration_s``, whole runs alternate, A B B A.

    Args:
        a: a result, or a model as for :func:`inferload.run`.
        b: what is compared with it, of the same kind.
        forms: in place of ``b``, two forms of one model.
        inputs: of models: as for :func:`inferload.run`.
        gates: how much worse B may be, such as ``"p99 +5%"`` or ``"throughput -3%"``.
        pairs: of models: how many pairs of fresh processes, 6 or more, if not as many as there is
            time for; or of whole runs, 10 or more.
        precision: of slices: the interval of the throughput is narrow enough within this fraction.
        time_limit_s: of slices: how long it takes, 2 minutes if nobody says; six pairs of processes
            are made in any case.
        load: of models: the load of every run; one caller in a closed loop if not given.
        save: where to write the comparison, of models after every run; one that was interrupted
            goes on.
        observer: is told of stages and progress.
        options: of models: further options of :func:`inferload.run`; ``duration_s`` of whole runs
            is 3 s if no end is given, and ``processes=1``.

    Raises:
        PlanError: they cannot be compared.
        CallError, TargetCrashed: a run failed.
        StudyInterrupted: Ctrl-C; its ``study`` has what was done until then.
    """
    read = _gates(gates)
    _check_sides(b, forms)
    both = [_result_of(a), None if forms is not None else _result_of(b)]
    if both[0] is not None and both[1] is not None:
        if inputs is not None or options or not (pairs is precision is time_limit_s is None):
            raise PlanError("results have inputs and options already: leave them out")
        titles = (_name_of(a, "A"), _name_of(b, "B"))
        found = compared_results(both[0], both[1], titles, read)
        if save is not None:
            path = as_path("save", save)
            if is_there(path):
                check_kind(path, Comparison)
            keep(found, path)
        return found
    if both != [None, None] or (forms is not None and both[0] is not None):
        raise PlanError("a result and a model cannot be compared: give two of a kind")
    staged = load is not None and bool(load.stages)  # which have an end of their own
    whole = bool({"calls", "duration_s"} & set(options))
    if not whole and not staged:
        options["duration_s"] = DEFAULT_RUN_S
    if options.get("executor", "auto") in {"auto", "threads", "native", "async"}:
        options.setdefault("processes", 1)
    how = How(pairs=pairs, precision=precision, time_limit_s=time_limit_s, gates=read)
    models = {"a": a, "b": a if forms is not None else b}
    settings = {side: Settings() for side in models}
    if forms is not None:
        settings = {side: Settings(form=form) for side, form in zip("ab", forms, strict=True)}
    known = _known(models, inputs)
    names = {
        side: f"{target.name} ({settings[side].form or target.form})"
        for side, (target, _) in known.items()
    }
    asked = {
        "a": [names["a"], *fingerprint(*known["a"])],
        "b": [names["b"], *fingerprint(*known["b"])],
        **how.told,
        "load": str(load or ClosedLoop()),
        "options": as_written(options),
    }
    own = {side: _options_of(model, options, load) for side, model in models.items()}
    sides = Sides(
        names=names,
        options=own,
        asked=asked,
        settings=settings,
        whole=whole,
        peak_pairs=peak_pairs([*models.values()], own["a"]),
    )
    keeper = StudyKeeper(None if save is None else as_path("save", save), Comparison, asked)
    benches = {
        side: LocalBench.of_model(
            model if isinstance(model, str) else known[side][0], known[side][1]
        )
        for side, model in models.items()
    }
    with ExitStack() as stack:
        return compare_sides(
            sides,
            how,
            observer or Logging(),
            benches=lambda: benches,
            sliced=lambda: {
                side: stack.enter_context(in_fresh_processes(models[side], inputs, *known[side]))
                for side in models
            },
            outputs=lambda: told_apart(
                *(benches[side].outputs(settings[side].form) for side in "ab")
            ),
            done=keeper.done,
            keep=keeper.keep,
        )


def _known(
    models: dict[str, object], inputs: object
) -> dict[str, tuple[Target, tuple[CallInput, ...]]]:
    """Both models with their inputs; a server takes those of the other one."""
    found: dict[str, tuple[Target, tuple[CallInput, ...]]] = {}
    for side in sorted(models, key=lambda one: is_served(models[one])):
        if inputs is None and is_served(models[side]) and found:
            inputs = next(iter(found.values()))[1]
        found[side] = target_and_inputs(models[side], inputs)
    return found


def _options_of(
    model: object, options: dict[str, Any], load: ClosedLoop | OpenLoop | None
) -> RunOptions:
    """The options of a side's runs; a server is not asked what is of models here."""
    served = is_served(model)
    own = {name: one for name, one in options.items() if not (served and name in _OF_MODELS_HERE)}
    return options_of(own, load or ClosedLoop(), model)


def _gates(gates: str | Gate | Iterable[str | Gate]) -> tuple[Gate, ...]:
    listed = [gates] if isinstance(gates, str | Gate) else gates
    return tuple(one if isinstance(one, Gate) else gate_from_text(one) for one in listed)


def _check_sides(b: object, forms: Sequence[str] | None) -> None:
    if (b is None) == (forms is None):
        raise PlanError("A is compared with one thing: give b, or forms=('eager', 'script')")
    if forms is not None and (len(forms) != 2 or forms[0] == forms[1]):
        raise PlanError(f"forms {forms!r} are not two: give two, such as ('eager', 'script')")


def _result_of(one: object) -> RunResult | None:
    if isinstance(one, RunResult):
        return one
    if isinstance(one, str | Path) and str(one).endswith(".json"):
        return load_result(one)
    return None


def _name_of(one: object, otherwise: str) -> str:
    return otherwise if isinstance(one, RunResult) else str(one)
