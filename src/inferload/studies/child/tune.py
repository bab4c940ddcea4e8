"""``tune()``: the best configuration of a model."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from inferload.errors import PlanError
from inferload.files import as_path
from inferload.machine.hardware import usable_cores
from inferload.plan.arrivals.loads import ClosedLoop
from inferload.plan.cores import memory_nodes
from inferload.runs.run import Logging
from inferload.stats.limits.limit import limits_given
from inferload.studies.child.fresh import in_fresh_processes
from inferload.studies.keeping import StudyKeeper
from inferload.studies.local.bench import LocalBench
from inferload.studies.local.options import as_written, fingerprint, options_of
from inferload.studies.local.search import varied
from inferload.studies.records.tuning import Tuning
from inferload.studies.tune.candidates import candidates, check_tunable, forms_of
from inferload.studies.tune.plan import FULL_S, TunePlan
from inferload.studies.tune.tuner import run_tune
from inferload.targets.loading import target_and_inputs

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from inferload.stats.limits.limit import Limit
    from inferload.studies.bench import StudyObserver
    from inferload.studies.child.bench import ChildBench


def tune(
    model: object,
    inputs: object = None,
    *,
    limit: str | Limit | Iterable[str | Limit] = (),
    callers: Iterable[int] | int | None = None,
    threads_per_call: Iterable[int] | int | None = None,
    processes: Iterable[int] | int | None = None,
    forms: Iterable[str | None] | str | None = None,
    batch_sizes: Iterable[int] | int | None = None,
    max_batches: Iterable[int] | int | None = None,
    max_delays_s: Iterable[float] | float | None = None,
    cores: int | None = None,
    load: ClosedLoop | None = None,
    duration_s: float = FULL_S,
    save: str | os.PathLike[str] | None = None,
    observer: StudyObserver | None = None,
    **options: Any,
) -> Tuning:
    """Find the configuration that makes the most of a model within the machine's cores.

    All are measured briefly, the best third of them for three times as long, and so on; what is
    left is called in turn with the default, in pairs of fresh processes (docs/studies.md).

    Args:
        model: as for :func:`inferload.run`.
        inputs: as for :func:`inferload.run`.
        limit: what the best must keep, such as ``"p99<=20ms"``.
        callers: of each process, to try; powers of 2 up to the cores if not given.
        threads_per_call: intra-op threads of each call, to try; likewise.
        processes: to try; likewise.
        forms: the forms to try; all that an eager model can be turned into if not given. ``None``
            is the model as it is.
        batch_sizes: the inputs stacked to so many items, to try; as they are if not given.
        max_batches: up to so many requests a batch, to try; with ``load=ClosedLoop(clients=...)``.
        max_delays_s: how long a batch is held back for more requests, to try.
        cores: how many cores callers x threads x processes may take; those of the machine if not
            given.
        load: of whose callers the configurations have others, such as
            ``il.ClosedLoop(clients=256)``; callers call by themselves if not given.
        duration_s: how long a configuration would be measured in full: rounds take a third, a ninth
            and so on of it for each, and the pairs with the default take so long in all, or as long
            as six of them take.
        save: where to write the study after every run; one that was interrupted goes on.
        observer: is told of stages and progress.
        options: further options of :func:`inferload.run`, such as ``executor`` and ``device``.

    Raises:
        PlanError: there is nothing to try, or it cannot be run.
        CallError, TargetCrashed: nothing could be run; what the first failed with.
        StudyInterrupted: Ctrl-C; its ``study`` has what was done until then.
    """
    given = {
        "callers": callers,
        "threads_per_call": threads_per_call,
        "processes": processes,
        "form": forms,
        "batch_size": batch_sizes,
        "max_batch": max_batches,
        "max_delay_s": max_delays_s,
    }
    axes = {name: varied(value) for name, value in given.items() if value is not None}
    for name in {"calls", "precision", "time_limit_s"} & options.keys():
        raise PlanError(f"{name} is no option of tuning: give duration_s")
    check_tunable(model)
    limits = limits_given(limit)
    on_device = options.get("device") is not None
    target, own_inputs = target_and_inputs(model, inputs)
    tried = dict(axes)
    if target.form == "eager" and hasattr(target, "module"):
        tried.setdefault("form", forms_of("", on_device=on_device))
    if on_device:
        tried.setdefault("threads_per_call", (1,))
    asked = {
        "model": [target.name, *fingerprint(target, own_inputs)],
        "axes": axes,
        "limits": list(map(str, limits)),
        "cores": cores,
        "duration_s": duration_s,
        "options": as_written(options | ({} if load is None else {"load": load})),
    }
    named = isinstance(model, str)
    plan = TunePlan(
        target=target.name,
        asked=asked,
        options=options_of(options, load or ClosedLoop(), model),
        candidates=candidates(
            tried,
            max(int(usable_cores()), 1) if cores is None else cores,
            all_sizes=bool(limits) or on_device,
            nodes=memory_nodes(),
        ),
        limits=limits,
        full_s=duration_s,
        words=(f'"{model}"' if named else "model", *["inputs"] * (inputs is not None)),
    )
    keeper = StudyKeeper(None if save is None else as_path("save", save), Tuning, asked)
    with ExitStack() as stack:

        def sliced() -> dict[str, ChildBench]:
            return {
                side: stack.enter_context(in_fresh_processes(model, inputs, target, own_inputs))
                for side in "ab"
            }

        return run_tune(
            plan,
            LocalBench.of_model(model if named else target, own_inputs),
            observer or Logging(),
            sliced=sliced,
            done=keeper.done,
            keep=keeper.keep,
        )
