"""``sweep()``: a model at several numbers of callers, processes or rates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inferload.files import as_path
from inferload.plan.arrivals.loads import ClosedLoop
from inferload.plan.numbers import check_count
from inferload.runs.run import Logging
from inferload.studies.keeping import StudyKeeper
from inferload.studies.local.bench import LocalBench
from inferload.studies.local.options import as_written, fingerprint, options_of
from inferload.studies.local.search import DEFAULT_POINT_S, varied
from inferload.studies.records.sweep import Sweep
from inferload.studies.sweep.plan import SweepPlan
from inferload.studies.sweep.sweeper import run_sweep
from inferload.targets.loading import target_and_inputs

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from inferload.plan.arrivals.loads import OpenLoop
    from inferload.studies.bench import StudyObserver


def sweep(
    model: object,
    inputs: object = None,
    *,
    callers: Iterable[int] | int | None = None,
    rates_per_s: Iterable[float] | float | None = None,
    processes: Iterable[int] | int | None = None,
    threads_per_call: Iterable[int] | int | None = None,
    batch_sizes: Iterable[int] | int | None = None,
    forms: Iterable[str] | str | None = None,
    max_batches: Iterable[int] | int | None = None,
    max_delays_s: Iterable[float] | float | None = None,
    load: ClosedLoop | OpenLoop | None = None,
    blocks: int = 3,
    save: str | os.PathLike[str] | None = None,
    observer: StudyObserver | None = None,
    **options: Any,
) -> Sweep:
    """Run a model with several values of one or two settings.

    In each of the ``blocks`` every point is called for ``duration_s`` (2 s if no end is given), by
    slices of 0.1 s or more, all points in turn. Where their calls have no slices (open loops,
    servers, queues, several processes), or ``calls`` or ``precision`` is given, each point is a
    whole run, in an order shuffled within each block.

    Args:
        model: as for :func:`inferload.run`.
        inputs: as for :func:`inferload.run`.
        callers: how many callers, of each process; 1 if not given.
        rates_per_s: open loops with so many calls due per second; closed loops if not given.
        processes: how many processes.
        threads_per_call: intra-op threads of each call.
        batch_sizes: the inputs stacked along dimension 0 to so many items.
        forms: the forms that an eager model is turned into.
        max_batches: how many requests a batch has at most (``batching`` has what else there is).
        max_delays_s: how long a batch is held back for more requests, in seconds.
        load: what is varied: its callers, and of an open loop its rate; a closed loop if not given.
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
        "max_delay_s": max_delays_s,
        "max_batch": max_batches,
        "callers": 1 if callers is None and load is None else callers,
        "rate_per_s": rates_per_s,
        "processes": processes,
        "threads_per_call": threads_per_call,
        "batch_size": batch_sizes,
        "form": forms,
    }
    axes = {name: varied(value) for name, value in given.items() if value is not None}
    if not {"calls", "duration_s", "precision"} & set(options):
        options["duration_s"] = DEFAULT_POINT_S
    base = options_of(options, load or ClosedLoop(), model)
    target, own_inputs = target_and_inputs(model, inputs)
    asked = {
        "model": [target.name, *fingerprint(target, own_inputs)],
        "axes": axes,
        "blocks": blocks,
        "options": as_written(options | ({} if load is None else {"load": load})),
    }
    plan = SweepPlan(target=target.name, asked=asked, options=base, axes=axes, blocks=blocks)
    keeper = StudyKeeper(None if save is None else as_path("save", save), Sweep, asked)
    bench = LocalBench.of_model(model if isinstance(model, str) else target, own_inputs)
    return run_sweep(
        plan,
        bench,
        observer or Logging(),
        turns=bench.turns(),
        done=keeper.done,
        keep=keeper.keep,
    )
