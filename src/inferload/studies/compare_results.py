"""Two results that were saved, compared by their own intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferload.errors import PlanError
from inferload.studies.compare import Failed, failed_calls, judged, unlike_models, unlike_specs
from inferload.studies.differences import of_summaries
from inferload.studies.records.comparison import Comparison
from inferload.studies.records.settings import Settings, StudyRun
from inferload.studies.same_model import other_model
from inferload.studies.spoiled import CODES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.records.figures import RunWarning
    from inferload.records.result import RunResult
    from inferload.records.spec import RunSpec
    from inferload.studies.records.comparison import Gate

_ENVIRONMENT = (
    "cpu", "cores", "usable_cores", "devices", "torch", "python", "cpu_capability", "allocator",
    "variables", "governor", "turbo",
)  # fmt: skip


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
    failed = Failed(failed_calls(runs[:1]), failed_calls(runs[1:]))
    warnings: dict[str, RunWarning] = {}
    for result in (a, b):
        warnings |= {one.code: one for one in result.warnings if one.code in CODES}
    return Comparison(
        a=names[0],
        b=names[1],
        asked={"results": [a.run_id, b.run_id]},
        status="complete",
        differences=differences,
        gates=judged(gates, differences, more_fail=failed.more),
        unlike=(*unlike_models(a.spec, b.spec), *environment, *unlike_specs(a.spec, b.spec)),
        sides=("a", "b"),
        runs=runs,
        failed_fractions=failed.fractions,
        more_fail=failed.more,
        environment={} if environment else b.environment,
        warnings=tuple(warnings.values()),
    )


def _kind(spec: RunSpec) -> str:
    return "open loop" if spec.open_loop else "closed loop"
