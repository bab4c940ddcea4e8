"""A run as a TOML file: every option of ``inferload run``, one model or several."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inferload.errors import PlanError
from inferload.plan.model import MODEL_FILES, spec_parts

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# What may be written as a number or as a text such as "10s" or "2%".
TimeText = str | float
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


class RunFile(_Strict):
    """The keys of a run file: the flags of ``inferload run``, with underscores."""

    model: str | None = None
    models: dict[str, ModelEntry] = Field(default_factory=dict)
    form: str | None = None
    mode: str | None = None
    device: str | None = None
    streams: str | None = None
    completion: str | None = None
    transfers: bool | None = None
    telemetry: bool | None = None
    inputs: list[str] | None = None
    fresh_inputs: bool | None = None
    batch_sizes: list[int] | None = None
    callers: int | None = None
    processes: int | None = None
    calls: int | None = None
    duration: TimeText | None = None
    precision: str | float | None = None
    quantile: str | None = None
    time_limit: TimeText | None = None
    rate: float | None = None
    arrivals: str | None = None
    warmup: str | int | None = None
    executor: str | None = None
    threads_per_call: int | None = None
    pin: str | None = None
    autocast: str | None = None
    grad: str | None = None
    compare: bool | None = None
    seed: int | None = None
    on_error: str | None = None
    verify: bool | None = None
    timeout: TimeText | None = None
    isolate: bool | None = None
    json_: Annotated[str | None, Field(alias="json")] = None
    html: str | None = None
    markdown: str | None = None
    trace: str | None = None
    quiet: bool | None = None

    def options(self) -> dict[str, Any]:
        """The options that it sets, by the names of the flags, as the command line has them."""
        found = self.model_dump(exclude_none=True, by_alias=True, exclude={"models", "model"})
        for name in ("duration", "time_limit", "timeout"):
            if isinstance(found.get(name), float | int):
                found[name] = f"{found[name]:.9g}s"
        for name in ("precision", "warmup"):
            if name in found:
                found[name] = str(found[name])
        if "batch_sizes" in found:
            found["batch_sizes"] = ",".join(map(str, found["batch_sizes"]))
        for name in ("json", "html", "markdown", "trace"):
            if name in found:
                found[name] = Path(found[name])
        return found


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
        found = RunFile.model_validate(content)
    except ValidationError as error:
        raise PlanError(_told(path, text, error)) from error
    if (found.model is None) == (not found.models):
        both = "both" if found.models else "neither"
        raise PlanError(f"{path} has {both}: give it model = ..., or [models.NAME] tables")
    if found.models and (found.form or found.inputs):
        raise PlanError(f"{path}: form and inputs belong into each [models.NAME] of a mix")
    without = [name for name, entry in found.models.items() if entry.callers is None]
    if without and len(without) < len(found.models):
        raise PlanError(
            f"{path}: {', '.join(without)} has no callers of its own, and other models have: give "
            "each of them callers, or none"
        )
    return _relative_to(found, path.parent)


def _told(path: Path, text: str, error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    words = first["msg"].lower()
    if first["type"] == "extra_forbidden":
        words = "there is no such key"
    line = _line_of(text, first["loc"][:-1] if first["type"] == "missing" else first["loc"])
    where = f"{path}, line {line}" if line else str(path)
    given = (
        "" if first["type"] in {"missing", "extra_forbidden"} else f" (it is {first['input']!r})"
    )
    return f"{where}: {place}: {words}{given}"


def _line_of(text: str, place: tuple[int | str, ...]) -> int | None:
    """The line on which a key is set, as far as that can be seen without a parser."""
    names = [str(part) for part in place if isinstance(part, str)]
    table: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            table = [part.strip(" \"'") for part in header[1].split(".")]
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
    if found.inputs is not None:
        changes["inputs"] = [*map(joined, found.inputs)]
    if found.arrivals is not None and found.arrivals.startswith("replay:"):
        changes["arrivals"] = f"replay:{folder / found.arrivals.removeprefix('replay:')}"
    return found.model_copy(update=changes)
