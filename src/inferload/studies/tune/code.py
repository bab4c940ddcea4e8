"""A configuration as Python code and as a command, that run exactly that."""

from __future__ import annotations

import shlex
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from inferload.plan.arrivals.loads import ClosedLoop
from inferload.plan.options import RunOptions
from inferload.studies.bench import batching_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from inferload.studies.records.settings import Settings

SECONDS = 10
# Options that a run of a study has of its own.
_OF_THE_STUDY = {
    "load", "calls", "duration_s", "precision", "time_limit_s", "decide", "devices",
    "form", "mode", "batch_size", "batching", "limit",
}  # fmt: skip
_NOT_FLAGS = {"model", "content", "machine", "limits", "axes", "cores", "duration", "members"}


def code_of(
    settings: Settings,
    options: RunOptions,
    words: Sequence[str],
    *,
    of_command_line: bool,
    autocast: str | None = None,
    grad: str = "inference",
) -> str:
    """Python that runs a configuration.

    ``words``: the model and, if they are not its file's, its inputs, as they are written.
    ``of_command_line``: it runs in inference mode, or as ``grad`` says, and cast to ``autocast`` if
    that is given.
    """
    given = [*words, f"load={_load(settings, options)}"]
    batching = batching_of(options, settings)
    if batching is not None:
        given.append(f"batching={batching.told.code}")
    own = {
        name: value
        for name, value in settings.given.items()
        if name in {"form", "batch_size", "processes", "threads_per_call"}
    }
    options, plain = options.checked(), RunOptions(duration_s=1.0).checked()
    for one in fields(RunOptions):
        value = getattr(options, one.name)
        if one.name == "warmup" and value in {None, "auto"}:  # as it is by itself
            continue
        if one.name not in _OF_THE_STUDY and value != getattr(plain, one.name):
            own.setdefault(one.name, value)
    if options.devices:
        own["device"] = list(options.devices) if len(options.devices) > 1 else options.devices[0]
    own["duration_s"] = SECONDS
    given += [f"{name}={_written(value)}" for name, value in own.items()]
    lines = ["result = il.run(", *(f"    {one}," for one in given), ")", "print(result)"]
    imports = ["import inferload as il"]
    if of_command_line:  # which computes no gradients
        imports = ["import torch", "", *imports]
        modes = {"inference": "inference_mode", "no": "no_grad", "on": "enable_grad"}
        states = [f"torch.{modes[grad]}()"]
        if autocast is not None:
            device = (options.devices or ("cpu",))[0].split(":")[0]
            states.append(f'torch.autocast("{device}", torch.{autocast})')
        lines = [f"with {', '.join(states)}:", *_indented(lines)]
    if settings.processes is not None or len(options.devices) > 1:  # they import this module too
        lines = ['if __name__ == "__main__":', *_indented(lines)]
    return "\n".join([*imports, "", *lines]) + "\n"


def _load(settings: Settings, options: RunOptions) -> str:
    given = [f"callers={settings.callers or 1}"]
    load = options.load
    if isinstance(load, ClosedLoop) and load.clients is not None:
        given.append(f"clients={load.clients}")
        if load.think_s:
            given += [f"think_s={load.think_s!r}", f"think={_written(load.think)}"]
    return f"il.ClosedLoop({', '.join(given)})"


def command_of(settings: Settings, asked: Mapping[str, Any]) -> str:
    """The command that runs a configuration; ``asked``: the flags that its study was given."""
    own: dict[str, Any] = {
        name: value
        for name, value in asked.items()
        if name not in _NOT_FLAGS and name != "processes"
    }
    sizes = own.pop("batch_size", None) if settings.batch_size is None else settings.batch_size
    own |= {name: value for name, value in settings.given.items() if name != "batch_size"}
    if "max_delay_s" in own:
        delay_s = own.pop("max_delay_s")
        own["max_delay"] = f"{delay_s:.9g}s" if delay_s else "0"
    if sizes is not None:
        own["batch_sizes"] = sizes
    own["duration"] = f"{SECONDS}s"
    return shlex.join(_words(str(asked["model"]), own))


def command_with(
    asked: Mapping[str, Any], flags: Mapping[str, str], environment: Mapping[str, str]
) -> str:
    """The command that runs what was asked for with other flags, and more in its environment."""
    own = {name: value for name, value in asked.items() if name not in _NOT_FLAGS}
    own |= {name.replace("-", "_"): value or True for name, value in flags.items()}
    own["duration"] = f"{SECONDS}s"
    before = [f"{name}={value}" for name, value in environment.items()]
    return shlex.join([*before, *_words(str(asked["model"]), own)])


def _words(model: str, own: Mapping[str, Any]) -> list[str]:
    words = ["inferload", "run", model]
    for name, value in own.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-", 1))
        else:
            for one in value if isinstance(value, list | tuple) else [value]:
                words += [flag, str(one)]
    return words


def _written(value: Any) -> str:
    if isinstance(value, str | int | float | bool | None):
        return repr(value).replace("'", '"')
    if isinstance(value, list | tuple):
        return repr(list(value)).replace("'", '"')
    return type(value).__name__.lower()  # an object of the caller's, by a name to be filled in


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]
