"""How to make a result again: the command it was made by, or the call in Python."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from inferload.run_options import RunOptions

if TYPE_CHECKING:
    from inferload.records import RunResult, RunSpec


def reproduction(result: RunResult) -> str:
    """A command line, or Python in which ``model`` and ``inputs`` are what was given."""
    if result.made_by is not None:
        return result.made_by
    spec, plain = result.spec, RunOptions()
    given = [f"load={_load(spec)}"]
    ends = ("calls", "duration_s", "precision")
    given += [f"{name}={getattr(spec, name)!r}" for name in ends if getattr(spec, name) is not None]
    if spec.precision is not None:
        given += [f"quantile={spec.quantile!r}", f"time_limit_s={spec.time_limit_s!r}"]
    given += [f"{name}={getattr(spec, name)!r}" for name in ("threads_per_call", "seed")]
    given += ["warmup_calls=" + str(spec.warmup_calls)] if spec.warmup == "fixed" else []
    given += [f"processes={spec.processes}"] if spec.isolated else []
    for name in (
        "on_error",
        "verify",
        "pin",
        "timeout_s",
        "share_inputs",
        "transfers",
        "fresh_inputs",
    ):
        if getattr(spec, name) != getattr(plain, name):
            given.append(f"{name}={getattr(spec, name)!r}")
    if spec.devices:
        given.append(f"device={list(spec.devices)!r}")
        given += [f"streams={spec.streams!r}", f"completion={spec.completion!r}"]
    lines = [f"    model,  # {spec.target} ({spec.form})", f"    inputs,  # {len(spec.inputs)}"]
    return "\n".join(["il.run(", *lines, *(f"    {one}," for one in given), ")"]).replace("'", '"')


def _load(spec: RunSpec) -> str:
    callers = f"callers={spec.callers_per_process}"
    if spec.load == "closed loop":
        return f"il.ClosedLoop({callers})"
    shape = re.search(r"\(burstiness ([\d.e+-]+)\)", spec.load)
    kind = spec.load.removeprefix("open loop, ").split()[0]
    if kind == "replay":
        return f"il.OpenLoop.replay(arrivals_s, {callers})"
    own = f", burstiness={shape[1]}" if shape is not None else ""
    seed = "" if kind == "constant" else f", seed={spec.seed}"
    return f"il.OpenLoop.{kind}(rate_per_s={spec.rate_per_s!r}{own}, {callers}{seed})"
