"""Studies of one model in this process: sweeps, and the highest rate that keeps limits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from inferload.errors import PlanError
from inferload.machine.hardware import usable_cores
from inferload.plan.cores import memory_nodes
from inferload.plan.loads import ClosedLoop, OpenLoop
from inferload.plan.numbers import check_count
from inferload.runs.run import Logging
from inferload.stats.limits import Limit, limits_from_texts
from inferload.studies.bench import LocalBench
from inferload.studies.candidates import candidates, forms_of
from inferload.studies.named import fingerprint, options_of, words_of
from inferload.studies.records import MaxRate, Sweep
from inferload.studies.resuming import Keeper
from inferload.studies.search import SearchPlan, run_search
from inferload.studies.sweep import SweepPlan, run_sweep
from inferload.studies.tune import run_tune
from inferload.studies.tune_plan import FULL_S, TunePlan
from inferload.studies.tune_records import Tuning
from inferload.targets.loading import target_and_inputs

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from inferload.studies.settings import StudyObserver

DEFAULT_POINT_S = 2.0


def sweep(
    model: object,
    inputs: object = None,
    *,
    callers: Iterable[int] | int = 1,
    rates_per_s: Iterable[float] | float | None = None,
    processes: Iterable[int] | int | None = None,
    threads_per_call: Iterable[int] | int | None = None,
    batch_sizes: Iterable[int] | int | None = None,
    forms: Iterable[str] | str | None = None,
    blocks: int = 3,
    save: str | os.PathLike[str] | None = None,
    observer: StudyObserver | None = None,
    **options: Any,
) -> Sweep:
    """Run a model with several values of one or two settings.

    Every point is a full run of ``duration_s`` (2 s if no end is given), once in each of the
    ``blocks``, in an order shuffled within each block.

    Args:
        model: as for :func:`inferload.run`.
        inputs: as for :func:`inferload.run`.
        callers: how many callers, of each process.
        rates_per_s: open loops with so many calls due per second; closed loops if not given.
        processes: how many processes.
        threads_per_call: intra-op threads of each call.
        batch_sizes: the inputs stacked along dimension 0 to so many items.
        forms: the forms that an eager model is turned into.
        blocks: how often each point is run.
        save: where to write the study after every run. If a sweep that was asked for in the same
            words lies there and was interrupted, it goes on where it ended.
        observer: is told of stages and progress.
        options: further options of :func:`inferload.run`, such as ``duration_s``, ``executor``,
            ``device``, ``pin``, ``seed``.

    Raises:
        PlanError: there is no such sweep, or none of its points can be run.
        StudyInterrupted: Ctrl-C; its ``study`` has what was done until then.
    """
    check_count("blocks", blocks, at_least=1, at_most=1000)
    given = {
        "callers": callers,
        "rate_per_s": rates_per_s,
        "processes": processes,
        "threads_per_call": threads_per_call,
        "batch_size": batch_sizes,
        "form": forms,
    }
    axes = {name: _values(value) for name, value in given.items() if value is not None}
    if not {"calls", "duration_s", "precision"} & set(options):
        options["duration_s"] = DEFAULT_POINT_S
    base = options_of(options, ClosedLoop())
    target, own_inputs = target_and_inputs(model, inputs)
    asked = {
        "model": [target.name, *fingerprint(target, own_inputs)],
        "axes": axes,
        "blocks": blocks,
        "options": words_of(options),
    }
    plan = SweepPlan(target=target.name, asked=asked, options=base, axes=axes, blocks=blocks)
    keeper = Keeper(None if save is None else Path(save), Sweep, asked)
    return run_sweep(
        plan,
        LocalBench.of_model(model if isinstance(model, str) else target, own_inputs),
        observer or Logging(),
        done=keeper.done,
        keep=keeper.keep,
    )


def find_max_rate(
    model: object,
    inputs: object,
    limit: str | Limit | Iterable[str | Limit],
    *,
    load: ClosedLoop | OpenLoop | None = None,
    resolution: float = 0.01,
    time_limit_s: float = 120.0,
    save: str | os.PathLike[str] | None = None,
    observer: StudyObserver | None = None,
    **options: Any,
) -> MaxRate:
    """Find the highest rate of calls at which limits are kept.

    From what the callers make without a pause the rate is bisected; each probe goes on until its
    calls say whether the limits are kept, and the answer is run once more to confirm it
    (docs/studies.md).

    Args:
        model: as for :func:`inferload.run`.
        inputs: as for :func:`inferload.run`.
        limit: one or more, such as ``"p99<=20ms"``, ``"errors<=1%"``, ``"throughput>=200"``.
        load: gives the number of callers and, of an open loop, the kind of arrivals; Poisson
            arrivals and one caller if not given.
        resolution: how near the highest rate that keeps the limits and the lowest that does not
            are to come, as a fraction.
        time_limit_s: about how long the search may take.
        save: where to write the study after every probe; one that was interrupted goes on.
        observer: is told of stages and progress.
        options: further options of :func:`inferload.run`, such as ``executor`` and ``processes``.

    Raises:
        PlanError: there is no such search, or the model cannot be run.
        CallError, TargetCrashed: the very first run failed.
        StudyInterrupted: Ctrl-C; its ``study`` has what was done until then.
    """
    limits = _limits(limit)
    base = options_of(options, load or ClosedLoop())
    target, own_inputs = target_and_inputs(model, inputs)
    asked = {
        "model": [target.name, *fingerprint(target, own_inputs)],
        "limits": [str(one) for one in limits],
        "callers": base.load.callers,
        "arrivals": getattr(base.load, "arrivals", "poisson"),
        "resolution": resolution,
        "options": words_of(options),
    }
    plan = SearchPlan(
        target=target.name,
        asked=asked,
        options=base,
        limits=limits,
        resolution=resolution,
        time_limit_s=time_limit_s,
    )
    keeper = Keeper(None if save is None else Path(save), MaxRate, asked)
    return run_search(
        plan,
        LocalBench.of_model(model if isinstance(model, str) else target, own_inputs),
        observer or Logging(),
        done=keeper.done,
        keep=keeper.keep,
    )


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
    cores: int | None = None,
    duration_s: float = FULL_S,
    save: str | os.PathLike[str] | None = None,
    observer: StudyObserver | None = None,
    **options: Any,
) -> Tuning:
    """Find the configuration that makes the most of a model within the machine's cores.

    All are measured briefly, the best third of them for three times as long, and so on; what is
    left is run in turn with the default, in ten pairs (docs/studies.md).

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
        cores: how many cores callers x threads x processes may take; those of the machine if not
            given.
        duration_s: how long a configuration would be measured in full: rounds take a third, a ninth
            and so on of it for each, and the pairs with the default take so long in all.
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
    }
    axes = {name: _values(value) for name, value in given.items() if value is not None}
    for name in {"calls", "precision", "time_limit_s"} & options.keys():
        raise PlanError(f"{name} is no option of tuning: give duration_s")
    limits = _limits(limit)
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
        "options": words_of(options),
    }
    named = isinstance(model, str)
    plan = TunePlan(
        target=target.name,
        asked=asked,
        options=options_of(options, ClosedLoop()),
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
    keeper = Keeper(None if save is None else Path(save), Tuning, asked)
    return run_tune(
        plan,
        LocalBench.of_model(model if named else target, own_inputs),
        observer or Logging(),
        done=keeper.done,
        keep=keeper.keep,
    )


def _limits(limit: str | Limit | Iterable[str | Limit]) -> tuple[Limit, ...]:
    listed = [limit] if isinstance(limit, str | Limit) else list(limit)
    return tuple(
        own
        for one in listed
        for own in ((one,) if isinstance(one, Limit) else limits_from_texts([one]))
    )


def _values(value: object) -> tuple[Any, ...]:
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        return (value,)
    return tuple(value)
