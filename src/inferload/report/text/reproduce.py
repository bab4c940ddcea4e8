"""How to make a result again: the command it was made by, or the program in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferload.plan.option_table import OPTIONS
from inferload.plan.server import SERVER_TIMEOUT_S
from inferload.units import printable

if TYPE_CHECKING:
    from inferload.plan.option_row import Row
    from inferload.records.result import RunResult
    from inferload.records.spec import RunSpec

_EXECUTORS = {"threads", "native", "async"}
# Those that are written as the run had them; others where they differ from what is so by itself.
_ALWAYS = {
    "calls", "duration_s", "precision", "quantile", "time_limit_s", "warmup_calls", "seed", "mode",
    "batch_size",
}  # fmt: skip


def reproduction(result: RunResult) -> str:
    """A command line, or a program in which ``model`` and ``inputs`` are what was given.

    What the run had to choose is written as it was chosen.
    """
    if result.made_by is not None:
        return result.made_by
    spec = result.spec
    states = _states(spec)
    lines = ["result = il.run(", *(f"    {one}" for one in _arguments(spec)), ")"]
    if states:
        lines = [f"with {', '.join(states)}:", *_indented(lines)]
    if spec.isolated:  # processes import the program that starts them
        lines = ['if __name__ == "__main__":', *_indented(lines)]
    imports = ["import torch", ""] * bool(states) + ["import inferload as il", ""]
    return "\n".join([*imports, *lines])


def _arguments(spec: RunSpec) -> list[str]:
    found = _model(spec)
    if not spec.models:  # a mix has its own
        own = spec.paired and spec.recording is not None
        given_inputs = "None" if own else "inputs"
        found.append(f"{given_inputs},  # {len(spec.inputs):,}")
    found += [*_load(spec), *_batching(spec)]
    given = _ends(spec)
    given |= {"warmup": spec.warmup, "warmup_calls": spec.warmup_calls}
    inner = set(spec.executors)
    if inner < _EXECUTORS:
        given["executor"] = spec.executor
    if spec.isolated:
        given["processes"] = spec.processes
    given |= {"threads_per_call": spec.threads_per_call, "seed": spec.seed}
    for row in OPTIONS:
        if row.told and row.name not in _ALWAYS:
            asked = spec.more.get(row.name, getattr(spec, row.name, row.default))
            given |= {} if asked == _by_itself(row, spec) else {row.name: asked}
    if spec.transfers:
        given["transfers"] = True
    if spec.devices:
        given["device"] = [*spec.devices] if len(spec.devices) > 1 else spec.devices[0]
        given |= {"streams": spec.streams, "completion": spec.completion}
    found += [f"{name}={_written(value)}," for name, value in given.items()]
    if not inner <= _EXECUTORS:
        found.append(f"executor=executor,  # {printable(spec.executor)}")
    return found


def _by_itself(row: Row, spec: RunSpec) -> object:
    """What an option is where nothing is said of it."""
    if row.name == "on_error":
        return "record" if spec.servers else "stop"
    if row.name == "timeout_s" and spec.servers:
        return SERVER_TIMEOUT_S
    return row.default


def _model(spec: RunSpec) -> list[str]:
    """The model; one behind a server is written out."""
    if not spec.servers or spec.models:
        return [f"model,  # {printable(spec.target)} ({printable(spec.form)})"]
    server = spec.servers[0]
    given: dict[str, object] = {
        "headers": dict(server.headers) or None,
        "body": server.body,
        "connections": None if server.connections == "kept" else server.connections,
        "insecure": server.insecure or None,
        "answer_bytes": server.answer_bytes,
    }
    own = [f"{name}={_written(value)}" for name, value in given.items() if value is not None]
    return [f"il.Server({', '.join([_written(server.url), *own])}),"]


def _ends(spec: RunSpec) -> dict[str, object]:
    """What was made of model and inputs, and what ends the run."""
    given: dict[str, object] = {
        "form": spec.asked_form,
        "batch_size": spec.batch_size,
        "calls": spec.calls,
        "duration_s": spec.duration_s,
        "precision": spec.precision,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if spec.limits:
        given["limit"] = [*spec.limits]
    if spec.precision is not None:
        given |= {"quantile": spec.quantile, "time_limit_s": spec.time_limit_s}
    return given


def _load(spec: RunSpec) -> list[str]:
    """The load, and a line before it on what has to be at hand."""
    if spec.models and spec.models[0].callers is not None:
        callers = ""  # the mix has them
    else:
        callers = f"callers={spec.callers_per_process}"
    if not spec.open_loop:
        return [f"load=il.ClosedLoop({', '.join(filter(None, [callers, *_clients(spec)]))}),"]
    kind, drain = spec.arrivals, f"drain_s={spec.drain_s!r}"
    if spec.recording is not None:
        path, speed = _written(spec.recording.path), f"speed={spec.recording.speed!r}"
        given = ", ".join(one for one in (path, speed, callers, drain) if one)
        return [f"load=il.OpenLoop.replay({given}),"]
    if kind == "replay":
        given = ", ".join(one for one in ("arrivals_s", callers, drain) if one)
        return [
            "# arrivals_s: when calls were due, in seconds, at the speed of the replay",
            f"load=il.OpenLoop.replay({given}),",
        ]
    shape = None
    if kind == "gamma":
        shape = f"burstiness={spec.burstiness!r}"
    seed = None
    if kind != "constant":
        seed = f"seed={spec.seed if spec.load_seed is None else spec.load_seed}"
    if spec.load_stages:
        stages = [f"    {one.code}," for one in spec.load_stages]
        rest = ", ".join(one for one in (f"arrivals={_written(kind)}", callers, seed, drain) if one)
        return ["load=il.OpenLoop.staged([", *stages, f"], {rest}),"]
    parts = [f"rate_per_s={spec.rate_per_s!r}", shape, callers, seed, drain]
    return [f"load=il.OpenLoop.{kind}({', '.join(one for one in parts if one)}),"]


def _clients(spec: RunSpec) -> list[str]:
    if spec.clients is None:
        return []
    found = [f"clients={spec.clients}"]
    if spec.think_s:
        found += [f"think_s={spec.think_s!r}", f"think={_written(spec.think)}"]
    return found


def _batching(spec: RunSpec) -> list[str]:
    return [] if spec.batching is None else [f"batching={spec.batching.code},"]


def _states(spec: RunSpec) -> list[str]:
    """The state of the calling thread, which holds in the callers."""
    found = {"inference": ["torch.inference_mode()"], "no grad": ["torch.no_grad()"]}.get(
        spec.grad_mode, []
    )
    for one in [] if spec.autocast == "off" else spec.autocast.split(", "):
        device, _, dtype = one.partition(":")
        found.append(f'torch.autocast("{device}", torch.{dtype})')
    return found


def _written(value: object) -> str:
    return repr(value).replace("'", '"')


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]
