"""Saved results as what a forecast is made from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from inferload.errors import PlanError
from inferload.runs.saved import json_of, load_result
from inferload.stats.pauses import pauses_of_run
from inferload.stats.service import profiles_of_run, why_idle, why_no_profile
from inferload.studies.forecast.measured import Measured
from inferload.studies.records.files import is_study, load_study
from inferload.studies.records.settings import Settings, setting_text
from inferload.studies.records.sweep import Sweep
from inferload.units import count_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from inferload.records.figures import Summary
    from inferload.records.result import RunResult
    from inferload.records.spec import RunSpec
    from inferload.stats.pauses import Pauses
    from inferload.stats.service import ServiceProfile
    from inferload.studies.records.settings import StudyRun

#: What a forecast takes from a sweep; of what else it varies, the best.
_FORECAST = {"callers", "batch_size", "max_batch", "max_delay_s", "rate_per_s"}
_MEASURE = "`inferload sweep MODEL --callers 1,2,4 --json sweep.json` measures what is needed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What was measured, of what, and what is to be said of it.

    ``asked``: the words that a sweep was asked for in; ``spec``: of one of the runs. ``shapes``: of
    inputs that batches were formed of, each by itself.
    """

    target: str
    names: tuple[str, ...]
    measured: Measured
    notes: tuple[str, ...] = ()
    environment: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, Any] = field(default_factory=dict)
    spec: RunSpec | None = None
    shapes: int = 1


@dataclass(slots=True, kw_only=True)
class _Found:
    """What one result has."""

    target: str
    profiles: list[ServiceProfile]
    environment: dict[str, Any]
    spec: RunSpec | None = None
    notes: tuple[str, ...] = ()
    why_not: str | None = None
    asked: dict[str, Any] = field(default_factory=dict)
    pauses: Pauses | None = None
    shapes: int = 1

    @property
    def open_loop(self) -> bool:
        """Whether it is a run whose calls were due."""
        return self.spec is not None and self.spec.open_loop

    @property
    def kind(self) -> dict[str, str]:
        """What results of one service have in common."""
        spec, machine = self.spec, self.environment
        # a sweep is named as it was asked for, and a run as the model is
        name = self.target if spec is None else spec.target
        found = {"model": name, "cpu": str(machine.get("cpu"))}
        found["torch"] = str(machine.get("torch"))
        if spec is None:
            return found
        return (
            found
            | model_of(spec)
            | {
                "executor": spec.executor,
                "threads a call": str(spec.threads_per_call),
                "device": ", ".join(spec.devices) or "cpu",
            }
        )


def model_of(spec: RunSpec) -> dict[str, str]:
    """What a run called, by what is said of it."""
    return {
        "model": spec.target,
        "form": spec.form,
        "inputs": f"{len(spec.inputs)} as {spec.inputs[0] if spec.inputs else 'none'}",
        "batch size": str(spec.batch_size),
    }


def source_of(results: Sequence[RunResult | Sweep], names: Sequence[str]) -> Source:
    """What results that are named come to together.

    Raises:
        PlanError: they are of several models, or do not tell how many calls were under way.
    """
    if not results:
        raise PlanError(f"there is no result to make a forecast from: {_MEASURE}")
    _check_apart(results, names)
    found = [_of_sweep(one) if isinstance(one, Sweep) else _of_run(one) for one in results]
    closed = [one for one in found if not one.open_loop]
    for one, name in zip(found, names, strict=True):
        if not one.profiles and not (one.open_loop and closed and one.why_not is None):
            why = one.why_not or f"too few calls returned; {_MEASURE}"
            raise PlanError(f"{name} does not tell how long calls take under load: {why}")
    first, *others = ((one.kind, name) for one, name in zip(found, names, strict=True))
    for kind, name in others:
        for what, own in kind.items():
            if own != (known := first[0][what]):
                raise PlanError(
                    f"{first[1]} and {name} are of two services, and a forecast is of one: {what} "
                    f"{known}, and {own}"
                )
    pauses = [one.pauses for one in found if one.pauses is not None]
    # calls of open loops come after pauses; others, where there are some, say what they take
    profiles = [profile for one in closed or found for profile in one.profiles]
    notes = [note for one in found for note in one.notes]
    for one, name in zip(found, names, strict=True):
        if one.open_loop and one.pauses is None:
            notes.append(
                f"{name} does not tell what pauses cost: that takes hundreds of calls of one "
                "caller that begin right after another, and as many after a pause"
            )
    return Source(
        target=found[0].target,
        names=tuple(names),
        measured=Measured.of(profiles, pauses[-1] if pauses else None),
        notes=tuple(dict.fromkeys(notes)),
        environment=found[0].environment,
        asked=found[0].asked,
        spec=found[0].spec,
        shapes=max(one.shapes for one in found),
    )


def _check_apart(results: Sequence[RunResult | Sweep], names: Sequence[str]) -> None:
    """Refuse a run that is there twice: it would count as more than was measured."""
    seen: dict[object, str] = {}
    for one, name in zip(results, names, strict=True):
        runs = one.runs if isinstance(one, Sweep) else (one,)
        own = {_identity(run.summary) for run in runs if run.summary is not None}
        for twice in own & seen.keys():
            raise PlanError(f"{seen[twice]} and {name} are of the same run: name it once")
        seen |= dict.fromkeys(own, name)


def _identity(summary: Summary) -> object:
    """What no two runs have alike: runs of a sweep have no names of their own."""
    return summary.completed_calls, summary.duration_s, summary.throughput_calls_per_s.value


def loaded(paths: Sequence[Path]) -> list[RunResult | Sweep]:
    """The results in files.

    Raises:
        ResultFormatError: a file is missing, damaged, or no result.
        PlanError: it is a study that no forecast is made from.
    """
    found: list[RunResult | Sweep] = []
    for path in paths:
        if not is_study(json_of(path)):
            found.append(load_result(path))
            continue
        study = load_study(path)
        if not isinstance(study, Sweep):
            raise PlanError(
                f"{path} is no sweep and no run, and no forecast is made from it: {_MEASURE}"
            )
        found.append(study)
    return found


def _of_run(result: RunResult) -> _Found:
    return _Found(
        target=result.spec.target,
        profiles=list(profiles_of_run(result.log, result.spec, result.summary.from_s)),
        environment=result.environment,
        spec=result.spec,
        why_not=why_no_profile(result.spec)
        or (why_idle(result.spec) if result.spec.batching is not None else None),
        notes=_failed(result),
        pauses=pauses_of_run(result.log, result.spec, result.summary.from_s),
        shapes=_shapes(result.spec),
    )


def _shapes(spec: RunSpec | None) -> int:
    """How many shapes inputs have whose batches were formed apart: nothing is padded to join."""
    if spec is None or spec.batching is None or spec.batching.pad:
        return 1
    elements = spec.batching.elements_per_input
    return max(len({one / n for one, n in zip(elements, spec.items_per_input, strict=False)}), 1)


def _failed(result: RunResult) -> tuple[str, ...]:
    failed = _failed_calls([result.summary])
    if result.status == "complete":
        return failed
    return (f"a run ended as {result.status}", *failed)


def _failed_calls(summaries: Sequence[Summary]) -> tuple[str, ...]:
    failed = sum(one.failed_calls for one in summaries)
    if not failed:
        return ()
    made = failed + sum(one.completed_calls for one in summaries)
    return (f"{failed:,} of {made:,} calls failed, which are taken to have needed no time",)


def _of_sweep(sweep: Sweep) -> _Found:
    runs = [one for one in sweep.runs if one.failure is None and one.spec is not None]
    others = [
        name for name, values in sweep.axes.items() if len(values) > 1 and name not in _FORECAST
    ]
    notes = _left_out(sweep)
    notes += _failed_calls([one.summary for one in runs if one.summary is not None])
    if others and sweep.peak is not None:
        best = {name: getattr(sweep.peak.settings, name) for name in others}
        runs = [one for one in runs if _has(one.settings, best)]
        said = ", ".join(setting_text(name, value) for name, value in best.items())
        notes += (f"of what the sweep varied it is of {said}, with which most was made",)
    stacked = len(sweep.axes.get("batch_size", ())) > 1
    profiles = [
        replace(profile, batch_size=run.settings.batch_size) if stacked else profile
        for run in runs
        for profile in run.services
    ]
    return _Found(
        target=sweep.target,
        profiles=profiles,
        environment=sweep.environment,
        spec=runs[0].spec if runs else None,
        notes=notes,
        why_not=None if profiles else _why_none(runs),
        asked=sweep.asked,
        shapes=max((_shapes(one.spec) for one in runs), default=1),
    )


def _left_out(sweep: Sweep) -> tuple[str, ...]:
    """Which runs of a sweep failed, and say nothing."""
    failed = [one for one in sweep.runs if one.failure is not None]
    if not failed:
        return ()
    points = "; ".join(dict.fromkeys(str(one.settings) for one in failed))
    of = f"{len(failed)} of {count_text(len(sweep.runs), 'run')} of the sweep failed"
    return (f"{of} and are left out ({points}): {failed[0].failure}",)


def _has(settings: Settings, best: dict[str, Any]) -> bool:
    return all(getattr(settings, name) == value for name, value in best.items())


def _why_none(runs: Sequence[StudyRun]) -> str:
    reasons = dict.fromkeys(
        why for one in runs if one.spec is not None and (why := why_no_profile(one.spec))
    )
    if reasons:
        return next(iter(reasons))
    idle = [one.spec for one in runs if one.spec is not None and one.spec.batching is not None]
    if idle:
        return why_idle(idle[-1])
    few = count_text(len(runs), "run")
    return f"it was saved before sweeps kept that, or has too few calls ({few}): {_MEASURE}"
