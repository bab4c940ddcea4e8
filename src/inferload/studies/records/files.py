"""Studies as files: versioned JSON with every run's figures inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from inferload.errors import ResultFormatError
from inferload.files import json_text, replacing
from inferload.runs.saved import damaged, json_of
from inferload.studies.records.comparison import Comparison
from inferload.studies.records.explanation import Explanation
from inferload.studies.records.forecast import Forecast
from inferload.studies.records.max_rate import MaxRate
from inferload.studies.records.sweep import Sweep
from inferload.studies.records.tuning import Tuning

if TYPE_CHECKING:
    import os

# What came of gates, until schema 4.
_GATES = {"held": "kept", "open": "cannot tell"}
SCHEMA_VERSION: Literal[5] = 5


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[5] = SCHEMA_VERSION


class _SweepDocument(_Document):
    format: Literal["inferload sweep"] = "inferload sweep"
    study: Sweep


class _SearchDocument(_Document):
    format: Literal["inferload search"] = "inferload search"
    study: MaxRate


class _ComparisonDocument(_Document):
    format: Literal["inferload comparison"] = "inferload comparison"
    study: Comparison


class _TuningDocument(_Document):
    format: Literal["inferload tuning"] = "inferload tuning"
    study: Tuning


class _ForecastDocument(_Document):
    format: Literal["inferload forecast"] = "inferload forecast"
    study: Forecast


class _ExplanationDocument(_Document):
    format: Literal["inferload explanation"] = "inferload explanation"
    study: Explanation


Study = Sweep | MaxRate | Comparison | Tuning | Forecast | Explanation
_KINDS: dict[str, Any] = {
    "inferload explanation": _ExplanationDocument,
    "inferload forecast": _ForecastDocument,
    "inferload sweep": _SweepDocument,
    "inferload tuning": _TuningDocument,
    "inferload search": _SearchDocument,
    "inferload comparison": _ComparisonDocument,
}


def save_study(study: Study, path: str | os.PathLike[str]) -> None:
    """Write a study, whole or not at all.

    Raises:
        OSError: the file could not be written; what stood there before is untouched.
    """
    document: _Document
    if isinstance(study, Sweep):
        document = _SweepDocument(study=study)
    elif isinstance(study, MaxRate):
        document = _SearchDocument(study=study)
    elif isinstance(study, Tuning):
        document = _TuningDocument(study=study)
    elif isinstance(study, Forecast):
        document = _ForecastDocument(study=study)
    elif isinstance(study, Explanation):
        document = _ExplanationDocument(study=study)
    else:
        document = _ComparisonDocument(study=study)
    text = json_text(document.model_dump_json, document.model_dump, indent=1)
    with replacing(Path(path)) as file:
        file.write_text(text + "\n", encoding="utf-8")


def measured_any(study: Study) -> bool:
    """Whether some run of a study has measured something."""
    if isinstance(study, MaxRate):
        return bool(study.probes)
    if isinstance(study, Forecast):
        return bool(study.points)
    if isinstance(study, Explanation):
        return True
    runs = [one.run for one in study.trials] if isinstance(study, Tuning) else study.runs
    return any(run.failure is None for run in runs)


def is_study(content: Any) -> bool:
    """Whether a JSON document is a study of any version."""
    return isinstance(content, dict) and content.get("format") in _KINDS


def load_study(path: str | os.PathLike[str]) -> Study:
    """Read what ``save`` wrote of any study.

    Raises:
        ResultFormatError: the file is missing, damaged, of another version, or no study.
    """
    path = Path(path)
    content = json_of(path)
    if not is_study(content):
        raise ResultFormatError(
            f"{path} is no sweep, search, tuning, comparison, forecast or explanation of inferload"
        )
    version = content.get("schema_version")
    if version in {1, 2, 3, 4}:  # what was added since has a default
        content["schema_version"] = version = SCHEMA_VERSION
        _rename_gates(content.get("study"))
    if version != SCHEMA_VERSION:
        raise ResultFormatError(
            f"{path} has schema version {version!r}; this inferload reads version {SCHEMA_VERSION}"
        )
    try:
        study: Study = _KINDS[content["format"]].model_validate(content).study
    except ValidationError as error:
        raise damaged(path, error) from error
    return study


def _rename_gates(study: Any) -> None:
    """Give what came of gates the names that it has now."""
    gates = study.get("gates") if isinstance(study, dict) else None
    for one in gates if isinstance(gates, list) else ():
        if isinstance(one, list) and one:
            one[-1] = _GATES.get(str(one[-1]), one[-1])
