"""``explain()``: what bounds a model, by changes that are tried."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, cast

from inferload.errors import PlanError
from inferload.files import as_path, check_writable
from inferload.machine.scratch import scratch
from inferload.plan.arrivals.loads import ClosedLoop
from inferload.runs.checks.advice import in_python
from inferload.runs.run import Logging
from inferload.studies.child.fresh import in_fresh_processes
from inferload.studies.explain.explainer import run_explain
from inferload.studies.explain.plan import RUN_S, TIME_LIMIT_S, ExplainPlan
from inferload.studies.keeping import keep
from inferload.studies.local.options import as_written, fingerprint, options_of
from inferload.studies.records.endings import StudyInterrupted
from inferload.targets.loading import target_and_inputs

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from inferload.plan.arrivals.loads import OpenLoop
    from inferload.studies.bench import StudyObserver
    from inferload.studies.child.bench import ChildBench
    from inferload.studies.records.explanation import Explanation


def explain(
    model: object,
    inputs: object = None,
    *,
    load: ClosedLoop | OpenLoop | None = None,
    time_limit_s: float = TIME_LIMIT_S,
    duration_s: float = RUN_S,
    save: str | os.PathLike[str] | None = None,
    observer: StudyObserver | None = None,
    **options: Any,
) -> Explanation:
    """Say what bounds a model, by changes that are tried, and which of them make more.

    The run as asked, and then, in rounds of fresh processes, each change in turn with it
    (docs/studies.md).

    Args:
        model: as for :func:`inferload.run`.
        inputs: as for :func:`inferload.run`.
        load: how many callers there are, as ``il.ClosedLoop(callers=4)``; one if not given.
        time_limit_s: about how long it may take in all.
        duration_s: how long the run as asked lasts.
        save: where to write the explanation.
        observer: is told of stages and progress.
        options: further options of :func:`inferload.run`, such as ``threads_per_call``.

    Raises:
        PlanError: it cannot be explained; what can.
        CallError, TargetCrashed: the run as asked failed.
        StudyInterrupted: Ctrl-C; its ``study`` has what was done until then.
    """
    for name in {"calls", "precision"} & options.keys():
        raise PlanError(f"{name} is no option of explaining: give duration_s")
    path = None if save is None else as_path("save", save)
    if path is not None:
        check_writable(path)
    target, given = target_and_inputs(model, inputs)
    plan = ExplainPlan(
        target=target.name,
        asked={
            "model": [target.name, *fingerprint(target, given)],
            "duration_s": duration_s,
            "options": as_written(options | ({} if load is None else {"load": load})),
        },
        options=options_of(
            {**options, "duration_s": duration_s}, load or ClosedLoop(), model
        ).checked(),
        time_limit_s=time_limit_s,
        command=_in_words,
    )
    with ExitStack() as stack:
        packages = stack.enter_context(scratch())

        def host(environment: Mapping[str, str], number: int) -> ChildBench:
            del number
            return stack.enter_context(
                in_fresh_processes(
                    model,
                    inputs,
                    target,
                    given,
                    fresh=False,
                    environment=environment,
                    packages=packages,
                )
            )

        try:
            found = run_explain(plan, host({}, 0), host, observer or Logging())
        except StudyInterrupted as interrupt:
            keep(cast("Explanation", interrupt.study), path)
            raise
    keep(found, path)
    return found


def _in_words(own: Mapping[str, str], environment: Mapping[str, str]) -> str:
    """What keeps a change, by the names that Python has for it."""
    words = [in_python(f"--{flag} {value}".strip()) for flag, value in own.items()]
    words += [f"{name}={value} in the environment" for name, value in environment.items()]
    return ", ".join(words)
