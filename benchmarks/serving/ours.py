"""inferload as users run it: the command in a process of its own, and the result that it saves."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import inferload as il
from serving import wording
from serving.processes import environment, output_of

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
# Read by Python when it starts, in each process: an import of uvloop then fails.
_WITHOUT_UVLOOP = 'import sys\n\nsys.modules["uvloop"] = None\n'


def measured(
    origin: str,
    options: str,
    read: Callable[[il.RunResult], T],
    *,
    core: int | None,
    stream: bool = False,
    uvloop: bool = True,
    limit_s: float = 120.0,
) -> T:
    """What ``read`` finds in the result of ``inferload run`` with these options.

    ``stream``: whether answers come in pieces. ``core``: where it and all its processes run.

    Raises:
        Ended: it did not end well.
    """
    with tempfile.TemporaryDirectory(prefix="inferload-servers-") as name:
        folder = Path(name)
        bodies, saved = folder / "bodies.jsonl", folder / "result.json"
        bodies.write_text(json.dumps(wording.asked(stream=stream)) + "\n", encoding="utf-8")
        words = [sys.executable, "-m", "inferload", "run", f"{origin}{wording.PATH}"]
        words += ["--inputs", str(bodies), "--body", json.dumps({"stream": stream})]
        words += [*options.split(), "--json", str(saved), "--quiet"]
        env = environment()
        if not uvloop:
            (folder / "sitecustomize.py").write_text(_WITHOUT_UVLOOP, encoding="utf-8")
            env["PYTHONPATH"] = f"{name}:{env['PYTHONPATH']}"
        output_of(words, core=core, limit_s=limit_s, env=env)
        result = il.load_result(saved)
        if result.summary.failed_calls or not result.summary.completed_calls:
            raise AssertionError(f"{result.summary.failed_calls} calls failed")
        return read(result)


def per_s(result: il.RunResult) -> float:
    """Requests a second."""
    return result.summary.throughput_calls_per_s.value
