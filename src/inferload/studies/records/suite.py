"""The runs of a test suite in one file: a baseline that later runs are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from inferload.errors import ResultFormatError
from inferload.files import json_text, replacing
from inferload.log.calls import COLUMNS, CallLog
from inferload.records.figures import RunWarning, SetUp, Summary
from inferload.records.result import RunResult
from inferload.records.spec import RunSpec
from inferload.runs.saved import damaged, json_of
from inferload.studies.records.settings import without_samples

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

FORMAT: Literal["inferload suite"] = "inferload suite"
SCHEMA_VERSION: Literal[1] = 1


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    run_id: str
    created_at: str
    status: str
    spec: RunSpec
    environment: dict[str, Any]
    set_up: SetUp
    summary: Summary
    warnings: tuple[RunWarning, ...]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: Literal["inferload suite"]
    schema_version: Literal[1]
    tests: dict[str, _Entry]


def save_suite(results: Mapping[str, RunResult], path: str | os.PathLike[str]) -> None:
    """Write all figures of runs, by the names of their tests, whole or not at all; no logs.

    Raises:
        OSError: the file could not be written.
    """
    tests = {
        name: _Entry(
            summary=without_samples(one.summary),
            **{field: getattr(one, field) for field in _Entry.model_fields if field != "summary"},
        )
        for name, one in results.items()
    }
    document = _Document(format=FORMAT, schema_version=SCHEMA_VERSION, tests=tests)
    text = json_text(document.model_dump_json, document.model_dump, indent=1)
    with replacing(Path(path)) as file:
        file.write_text(text + "\n", encoding="utf-8")


def is_suite(content: Any) -> bool:
    """Whether a JSON document is a suite of any version."""
    return isinstance(content, dict) and content.get("format") == FORMAT


def load_suite(path: str | os.PathLike[str]) -> dict[str, RunResult]:
    """Read what :func:`save_suite` wrote; the logs of the results are empty.

    Raises:
        ResultFormatError: the file is missing, damaged, of another version, or no suite.
    """
    path = Path(path)
    content = json_of(path)
    if not is_suite(content):
        raise ResultFormatError(
            f"{path} is no suite of inferload: write one with pytest --inferload-json {path.name}"
        )
    if content.get("schema_version") != SCHEMA_VERSION:
        raise ResultFormatError(
            f"{path} has schema version {content.get('schema_version')!r}; this inferload reads "
            f"version {SCHEMA_VERSION}"
        )
    try:
        document = _Document.model_validate(content)
    except ValidationError as error:
        raise damaged(path, error) from error
    import numpy as np

    empty = CallLog.of(
        {name: np.empty(0, dtype) for name, dtype in COLUMNS.items()}, (), open_loop=False
    )
    return {
        name: RunResult(
            **{field: getattr(entry, field) for field in _Entry.model_fields}, log=empty
        )
        for name, entry in document.tests.items()
    }
