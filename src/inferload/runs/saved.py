"""Results as files: versioned JSON, and the call log beside it.

``run.json`` holds everything but the log, ``run.calls`` the log in the format of ``log.saved``.
Nothing is pickled.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from inferload.errors import ResultFormatError
from inferload.files import as_path, beside, is_there, json_text, replacing
from inferload.log.failures import CallFailure
from inferload.log.saved import read_log, write_log
from inferload.records.devices import STAGE_NAMES, DeviceFigures
from inferload.records.figures import (
    ModelFigures,
    ProcessFigures,
    RankFigures,
    RunWarning,
    SetUp,
    SteadyState,
    Summary,
    Verification,
)
from inferload.records.limits import LimitVerdict
from inferload.records.result import RunResult
from inferload.records.server import FailureFigures, ServerFigures
from inferload.records.spec import RunSpec
from inferload.records.stages import LoadStage
from inferload.stats.parts import log_of_inputs, part_of
from inferload.stats.pieces import gaps

if TYPE_CHECKING:
    import os

    from inferload.log.calls import CallLog
    from inferload.records.distribution import Distribution
    from inferload.records.pieces import PieceFigures
    from inferload.stats.parts import MeasuredPart

FORMAT: Literal["inferload run"] = "inferload run"
SCHEMA_VERSION: Literal[9] = 9
_DISTRIBUTIONS = {
    "response_ms": "response_ns",
    "service_ms": "service_ns",
    "queue_ms": "queue_ns",
    "lateness_ms": "lateness_ns",
}
_OF_PIECES = {
    "first_response_ms": "first_response_ns",
    "first_ms": "first_piece_ns",
    "call_gap_ms": "call_gap_ns",
}
_OF_BATCHES = ("instance_wait_ms", "batch_wait_ms", "gather_ms", "device_ms")


class _LogReference(BaseModel):
    file: str
    calls: int
    errors: tuple[CallFailure, ...]


class _Document(BaseModel):
    """The schema of ``run.json``."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["inferload run"]
    schema_version: Literal[9]
    run_id: str
    created_at: str
    status: Literal["complete", "failed", "crashed", "rank lost", "timed out", "interrupted"]
    spec: RunSpec
    environment: dict[str, Any]
    set_up: SetUp
    summary: Summary
    warnings: tuple[RunWarning, ...]
    steady: SteadyState | None = None
    load_stages: tuple[LoadStage, ...] = ()
    limits: tuple[LimitVerdict, ...] = ()
    verification: Verification | None = None
    processes: tuple[ProcessFigures, ...] = ()
    ranks: tuple[RankFigures, ...] = ()
    models: tuple[ModelFigures, ...] = ()
    devices: tuple[DeviceFigures, ...] = ()
    failures: tuple[FailureFigures, ...] = ()
    servers: tuple[ServerFigures, ...] = ()
    cpu_energy_j: float | None = None
    made_by: str | None = None
    log: _LogReference


def log_path(path: Path) -> Path:
    """Where the call log of the result ``path`` lies: beside it, ending in ``.calls``."""
    return beside(path, ".calls")


def save_result(result: RunResult, path: str | os.PathLike[str]) -> None:
    """Write a result to ``path`` and its log beside it, each of them whole or not at all.

    Raises:
        OSError: a file could not be written.
        PlanError: the path is none.
    """
    path = as_path("path", path)
    document = _Document(
        format=FORMAT,
        schema_version=SCHEMA_VERSION,
        log=_LogReference(
            file=log_path(path).name, calls=len(result.log), errors=result.log.errors
        ),
        **{
            name: getattr(result, name)
            for name in _Document.model_fields
            if name not in {"format", "schema_version", "log"}
        },
    )
    text = json_text(
        document.model_dump_json,
        document.model_dump,
        indent=1,
        exclude={
            "summary": {
                **{name: {"sample"} for name in _DISTRIBUTIONS},
                "stages": {f"{name}_ms": {"sample"} for name in STAGE_NAMES},
                "batches": {name: {"sample"} for name in _OF_BATCHES},
                "pieces": {name: {"sample"} for name in (*_OF_PIECES, "gap_ms")},
            },
            "load_stages": {"__all__": {"response_ms": {"sample"}, "lateness_ms": {"sample"}}},
            "models": {"__all__": {"response_ms": {"sample"}, "service_ms": {"sample"}}},
        },
    )
    # both are whole before either takes its place
    with replacing(path) as json_file, replacing(log_path(path)) as log_file:
        json_file.write_text(text + "\n", encoding="utf-8")
        write_log(log_file, result.log, result.run_id)


def load_result(path: str | os.PathLike[str]) -> RunResult:
    """Read what :meth:`RunResult.save` wrote.

    Raises:
        ResultFormatError: a file is missing, truncated, of another version, or not ours.
    """
    path = Path(path)
    content = _content(path)
    try:
        document = _Document.model_validate(content)
    except ValidationError as error:
        raise damaged(path, error) from error
    own = path.parent / Path(document.log.file).name
    log = replace(
        read_log(
            own if is_there(own) else log_path(path),  # whose name may be no Unicode
            document.run_id,
            document.log.errors,
            open_loop=document.spec.queued,
        ),
        callers_by_lane=_callers_by_lane(path, document.spec),
    )
    if len(log) != document.log.calls:
        raise ResultFormatError(
            f"{path} speaks of {document.log.calls:,} calls, its call log holds {len(log):,}"
        )
    _check_rows(path, log, document.spec)
    fields = {name: getattr(document, name) for name in _Document.model_fields}
    for name in ("format", "schema_version", "log", "summary", "models"):
        del fields[name]
    if len(document.models) != len(document.spec.models):
        raise ResultFormatError(f"{path} is damaged: it does not have figures for every model")
    try:
        summary = _with_samples(document.summary, log, document.spec.callers)
        models = tuple(
            _with_sampled_model(figures, log_of_inputs(log, share), summary)
            for figures, share in zip(document.models, document.spec.models, strict=True)
        )
    except (ValueError, IndexError, OverflowError) as error:
        raise ResultFormatError(f"{path} and its call log do not go together: {error}") from error
    return RunResult(**fields, summary=summary, models=models, log=log)


def damaged(path: Path, error: ValidationError) -> ResultFormatError:
    """What is wrong with a file whose content is not what was saved."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    return ResultFormatError(
        f"{path} is damaged: {place}: {first['msg']}; it cannot be mended, run again"
    )


def json_of(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ResultFormatError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(
            path.read_text(encoding="utf-8"), parse_constant=finite, parse_float=finite
        )
    except OSError as error:
        raise ResultFormatError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ResultFormatError(
            f"{path} is not JSON, or it is truncated ({error}); name the .json file of a saved run"
        ) from error


def _what_else(content: Any) -> str:
    """What a JSON document is that is no result of a run."""
    own = content.get("format") if isinstance(content, dict) else None
    if isinstance(own, str) and own.startswith("inferload "):
        kind = {"inferload suite": "a baseline of pytest"}.get(own, f"a study ({own[10:]})")
        return f"{kind}, and this takes a result of one run: `inferload report` shows it"
    return "not a result of inferload"


def _content(path: Path) -> dict[str, Any]:
    content = json_of(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ResultFormatError(f"{path} is {_what_else(content)}")
    version = content.get("schema_version")
    if version in {1, 2, 3, 4, 5, 6, 7, 8}:  # what was added since has defaults
        content["schema_version"] = version = SCHEMA_VERSION
        _read_load(content.get("spec"))
    if version != SCHEMA_VERSION:
        raise ResultFormatError(
            f"{path} has schema version {version!r}; this inferload reads version {SCHEMA_VERSION}"
        )
    return content


def _read_load(spec: Any) -> None:
    """What the words of an open loop say, in a result that is older than the fields for it."""
    if not isinstance(spec, dict) or spec.get("drain_s") is None or spec.get("arrivals"):
        return
    words = str(spec.get("load", "")).removeprefix("open loop, ")
    spec["arrivals"] = words.partition(" ")[0]
    burstiness = re.search(r"\(burstiness ([\d.e+-]+)\)", words)
    if burstiness is not None:
        spec["burstiness"] = float(burstiness[1])


def finite(text: str) -> float:
    """A number of a saved document; refused where none was saved."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number that was saved")
    return number


def _callers_by_lane(path: Path, spec: RunSpec) -> tuple[int, ...]:
    if spec.processes < 1 or spec.callers < spec.processes:
        raise ResultFormatError(
            f"{path} is damaged: {spec.callers} callers in {spec.processes} processes"
        )
    lanes = spec.callers_by_lane
    if (
        min(lanes) < 1
        or sum(lanes) != spec.callers_per_process
        or len(lanes)
        not in {
            1,
            len(spec.models),
        }
    ):
        raise ResultFormatError(
            f"{path} is damaged: {spec.callers_per_process} callers in a process, and those of its "
            f"models are {', '.join(map(str, lanes))}"
        )
    return lanes


def _check_rows(path: Path, log: CallLog, spec: RunSpec) -> None:
    """Refuse rows that speak of callers, inputs or errors that are not there."""
    for name, count, least in (
        ("caller", spec.callers, 0),
        ("input", len(spec.items_per_input), 0),
        ("error", len(log.errors), -1),
    ):
        column = getattr(log, name)
        if len(column) and not least <= int(column.min()) <= int(column.max()) < count:
            raise ResultFormatError(
                f"the call log of {path} is damaged: column {name!r} goes from {column.min()} to "
                f"{column.max()}, and there are {count}"
            )


def _with_sampled_model(figures: ModelFigures, own: CallLog, summary: Summary) -> ModelFigures:
    part = part_of(own, summary.from_s)
    found: dict[str, Any] = {}
    for name in ("response_ms", "service_ms"):
        distribution: Distribution | None = getattr(figures, name)
        if distribution is not None:
            durations = part.durations(_DISTRIBUTIONS[name])
            found[name] = replace(distribution, sample=durations)
    return replace(figures, **found)


def _with_samples(summary: Summary, log: CallLog, callers: int) -> Summary:
    part = part_of(log, summary.from_s, callers)
    found: dict[str, Any] = {}
    for name, duration in _DISTRIBUTIONS.items():
        distribution: Distribution | None = getattr(summary, name)
        if distribution is not None:
            found[name] = replace(distribution, sample=part.durations(duration))
    if summary.stages is not None:
        stages: dict[str, Any] = {}
        for name in STAGE_NAMES:
            own: Distribution | None = getattr(summary.stages, f"{name}_ms")
            if own is not None:
                stages[f"{name}_ms"] = replace(own, sample=part.stage(f"{name}_ns"))
        found["stages"] = replace(summary.stages, **stages)
    if summary.pieces is not None:
        found["pieces"] = _with_sampled_pieces(summary.pieces, log, part, summary.from_s)
    return replace(summary, **found)


def _with_sampled_pieces(
    figures: PieceFigures, log: CallLog, part: MeasuredPart, from_s: float
) -> PieceFigures:
    found = {name: part.stage(duration) for name, duration in _OF_PIECES.items()}
    found["gap_ms"] = gaps(log, from_s)
    own: dict[str, Any] = {}
    for name, durations in found.items():
        distribution: Distribution | None = getattr(figures, name)
        if distribution is not None:
            own[name] = replace(distribution, sample=durations)
    return replace(figures, **own)
