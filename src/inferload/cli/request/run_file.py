"""A run as a TOML file: every option of ``inferload run``, one model or several."""

from __future__ import annotations

import difflib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    field_validator,
)

from inferload.errors import PlanError
from inferload.plan import option_table as table
from inferload.plan.model import MODEL_FILES, spec_parts

if TYPE_CHECKING:
    from inferload.plan.option_row import Row

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_CALLERS = Annotated[int, Field(ge=1, le=10_000)]
_WEIGHT = Annotated[float, Field(gt=0, le=1e9)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ModelEntry(_Strict):
    """One model of a mix: ``[models.NAME]``."""

    model: str
    weight: _WEIGHT = 1.0
    form: str | None = None
    mode: str | None = None
    inputs: list[str] = Field(default_factory=list)
    callers: _CALLERS | None = None


class StageEntry(_Strict):
    """One stage of a load whose rate changes: ``[[stages]]``."""

    rate: float | str
    duration: float | str

    @field_validator("rate")
    @classmethod
    def _one_rate(cls, value: float | str) -> float | str:
        if isinstance(value, str) and set(value) & set(",/"):
            raise ValueError("a stage has one rate or ramp, as 50 or '50..500'")
        return value

    def __str__(self) -> str:
        lasts = self.duration if isinstance(self.duration, str) else f"{self.duration:.9g}s"
        return f"{self.rate}/{lasts}"


class RunFile(_Strict):
    """A run file: one model or several, and any flags of ``inferload run``, with underscores."""

    model: str | None = None
    models: dict[str, ModelEntry] = Field(default_factory=dict)
    stages: list[StageEntry] = Field(default_factory=list)

    def options(self) -> dict[str, Any]:
        """The options that it sets, by the names of the flags, as the command line has them."""
        own = {"models", "model", "stages"}
        found = self.model_dump(exclude_none=True, by_alias=True, exclude=own)
        if self.stages:
            found["rate"] = ",".join(map(str, self.stages))
        return {row.key: _word(row, found[row.key]) for row in table.FLAGS if row.key in found}


def run_file() -> type[RunFile]:
    """With a key for each flag of ``inferload run``."""
    keys: dict[str, Any] = {
        f"{row.key}_": (_type_in_file(row) | None, Field(default=None, alias=row.key))
        for row in table.FLAGS
        if "run" in row.verbs
    }
    return create_model("RunFile", __base__=RunFile, **keys)


def _type_in_file(row: Row) -> Any:
    if row.in_file is not None:
        return row.in_file
    if row.unit is not None:
        return str | float
    if row.kind is list:
        return list[str]
    return str if row.kind is Path else row.kind


def _word(row: Row, value: Any) -> Any:
    """A value of a run file as it would stand on the command line."""
    if row.unit == "time" and not isinstance(value, str):
        return f"{value:.9g}s"
    if row.kind is Path:
        return Path(value)
    if isinstance(value, list) and row.kind is not list:
        return ",".join(map(str, value))
    return value if row.unit is None and row.kind is not str else str(value)


def read_run_file(path: Path) -> RunFile:
    """Read a run file; paths of models and inputs in it are relative to its folder.

    Raises:
        PlanError: naming the file, the line or the key that is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(
            f"the run file {path} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from error
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PlanError(f"{path} is no TOML: {error}") from error
    try:
        found = run_file().model_validate(content)
    except ValidationError as error:
        raise PlanError(_told(path, text, error)) from error
    if (found.model is None) == (not found.models):
        both = "both" if found.models else "neither"
        raise PlanError(f"{path} has {both}: give it model = ..., or [models.NAME] tables")
    if found.models and {"form", "inputs"} & found.options().keys():
        raise PlanError(f"{path}: form and inputs belong into each [models.NAME] of a mix")
    if found.stages and getattr(found, "rate_", None) is not None:
        raise PlanError(f"{path} has rate = ..., and [[stages]] with rates of their own: give one")
    without = [name for name, entry in found.models.items() if entry.callers is None]
    if without and len(without) < len(found.models):
        raise PlanError(
            f"{path}: {', '.join(without)} has no callers of its own, and other models have: give "
            "each of them callers, or none"
        )
    return _relative_to(found, path.parent)


def _told(path: Path, text: str, error: ValidationError) -> str:
    # a key that is missing is often there by another name
    first = min(error.errors(), key=lambda one: one["type"] == "missing")
    place = ".".join(str(part) for part in first["loc"])
    words = first["msg"].lower()
    if first["type"] == "extra_forbidden":
        words = _no_such_key(first["loc"])
    line = _line_of(text, first["loc"][:-1] if first["type"] == "missing" else first["loc"])
    where = f"{path}, line {line}" if line else str(path)
    given = (
        "" if first["type"] in {"missing", "extra_forbidden"} else f" (it is {first['input']!r})"
    )
    return f"{where}: {place}: {words}{given}"


def _no_such_key(place: tuple[int | str, ...]) -> str:
    """Say so, and name the key that was probably meant."""
    nested = StageEntry if place[0] == "stages" else ModelEntry
    model: type[BaseModel] = run_file() if len(place) == 1 else nested
    keys = [field.alias or name for name, field in model.model_fields.items()]
    meant = difflib.get_close_matches(str(place[-1]).replace("-", "_").lower(), keys, n=1)
    return f"there is no such key; {meant[0]} may be meant" if meant else "there is no such key"


def _line_of(text: str, place: tuple[int | str, ...]) -> int | None:
    """The line on which a key is set, as far as that can be seen without a parser."""
    # a number is of inputs, or of a table like [[stages]]
    names = [str(part) for part in place if isinstance(part, str) or place[0] == "stages"]
    table: list[str] = []
    seen = 0
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*(\[\[?)([^\[\]]+)\]", line):
            table = [part.strip(" \"'") for part in header[2].split(".")]
            if header[1] == "[[":
                table, seen = [*table, str(seen)], seen + 1
            if table == names:
                return number
        elif key := re.match(r"\s*([\w\"'.-]+)\s*=", line):
            full = [*table, *[part.strip("\"'") for part in key[1].split(".")]]
            if full == names[: len(full)] and len(full) >= min(len(names), len(table) + 1):
                return number
    return None


def _relative_to(found: RunFile, folder: Path) -> RunFile:
    """With the paths of models, inputs and replays joined to the folder of the file."""

    def joined(text: str) -> str:
        where, name = spec_parts(text, folder)
        if where.endswith((*MODEL_FILES, ".safetensors")):
            return f"{folder / where}" + ("" if name is None else f":{name}")
        return text

    changes: dict[str, Any] = {
        "models": {
            name: entry.model_copy(
                update={"model": joined(entry.model), "inputs": [*map(joined, entry.inputs)]}
            )
            for name, entry in found.models.items()
        }
    }
    if found.model is not None:
        changes["model"] = joined(found.model)
    asked = found.options()
    if "inputs" in asked:
        changes["inputs_"] = [*map(joined, asked["inputs"])]
    if asked.get("arrivals", "").startswith("replay:"):
        changes["arrivals_"] = f"replay:{folder / asked['arrivals'].removeprefix('replay:')}"
    return found.model_copy(update=changes)
