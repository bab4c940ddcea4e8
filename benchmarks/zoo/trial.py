"""One model in one form: by inferload's command line, and, where that fails, by torch alone.

Each runs in a child of a server that has imported torch and called nothing, with a time limit.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shlex
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from catalogue import Row

ZOO = Path(__file__).parent
#: A column of the table each: how the model is called.
COLUMNS = ("eager", "processes", "script", "export", "compile", "aoti")
CALLS = ("--callers", "2", "--calls", "20", "--warmup", "1", "--threads-per-call", "1")
_NO_END = "no end within"
#: Warnings about the load and the machine say nothing about the model.
ABOUT_THE_MODEL = {
    "not-verified", "outputs-differ", "traced", "not-compared", "partly-compared", "state-dropped",
    "input-changes", "input-shared", "lazy-parameters", "partly-verified", "grad-enabled",
    "training-mode", "failed-calls", "failed-runs", "compile-cache-race", "weights-unused",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What came of it.

    ``said`` is the sentence that was printed if there is no result, ``torch`` why torch alone
    fails, too (empty: it does not, or was not asked), ``torch_works`` in which other mode it does
    not. ``verified`` is yes, or what is said instead.
    """

    row: str
    column: str
    rc: int
    seconds: float
    said: str = ""
    completed: int = 0
    verified: str = ""
    warnings: dict[str, str] = field(default_factory=dict)
    torch: str = ""
    torch_works: str = ""
    version: str = ""

    @property
    def works(self) -> bool:
        """Calls were made, and none failed."""
        return self.rc in {0, 1} and self.completed > 0 and not self.said

    @property
    def out_of_time(self) -> bool:
        """It was ended at the limit: nothing is known of it."""
        return self.said.startswith(_NO_END)


def command(row: Row, column: str) -> list[str]:
    """The words after ``inferload``."""
    how = ["--processes", "2"] if column == "processes" else ["--form", column]
    return ["run", str(ZOO / "chosen.py"), *how, *CALLS, "--verify", "--quiet", *row.flags]


def shown(row: Row, column: str) -> str:
    """The command as a user types it, in the folder of the benchmarks."""
    words = shlex.join(command(row, column)).replace(str(ZOO), "benchmarks/zoo")
    return f"ZOO_ROW={shlex.quote(row.name)} inferload {words}"


def tried(row: Row, column: str, limit_s: float) -> Trial:
    """Run it, and ask torch alone if there is no result."""
    with tempfile.TemporaryDirectory(prefix="inferload-zoo-") as name:
        folder = Path(name)
        began = time.perf_counter()
        rc = _in_child(_invoke, (row.name, command(row, column), folder, False), limit_s)
        if rc < 0 and rc != -signal.SIGKILL:  # what is said of a crash
            rc = _in_child(_invoke, (row.name, command(row, column), folder, True), limit_s)
        seconds = time.perf_counter() - began
        trial = _read(row.name, column, rc, seconds, folder, limit_s)
        if trial.works or trial.out_of_time:
            return trial
        rc = _in_child(_ask_torch, (row.name, column, folder), limit_s)
        answer = folder / "torch.json"
        reason, works = (
            json.loads(answer.read_text()) if answer.exists() else (_ending(rc, limit_s), "")
        )
    return replace(trial, torch=reason, torch_works=works)


def _ending(rc: int, limit_s: float) -> str:
    return f"{_NO_END} {limit_s:g} s" if rc == -signal.SIGKILL else f"it ended with {rc}"


def _in_child(work: Callable[..., None], arguments: tuple[Any, ...], limit_s: float) -> int:
    context = multiprocessing.get_context("forkserver")
    if str(ZOO) not in os.environ.get("PYTHONPATH", ""):  # its server looks for modules there
        os.environ["PYTHONPATH"] = os.pathsep.join(
            [str(ZOO), *filter(None, [os.environ.get("PYTHONPATH")])]
        )
    # a pool of compilers would start processes that import torch once more
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    context.set_forkserver_preload(["preloaded"])
    child = context.Process(target=work, args=arguments)
    child.start()
    try:
        child.join(limit_s)
    finally:
        if child.exitcode is None:  # also when this one is interrupted
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid or 0, signal.SIGKILL)
            child.join()
    return child.exitcode if child.exitcode is not None else -signal.SIGKILL


def _alone(folder: Path) -> None:
    """In the child: a group of its own, output to files, no warnings on the way."""
    os.setsid()
    for number, name in ((1, "stdout"), (2, "stderr")):
        handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, number)
        os.close(handle)


def _invoke(row: str, words: list[str], folder: Path, isolated: bool) -> None:  # noqa: FBT001
    _alone(folder)
    from inferload.cli.main import main

    os.environ["ZOO_ROW"] = row
    os.environ["COLUMNS"] = "2000"
    # one process less to start: the model runs in this child
    own = [] if isolated or "--processes" in words else ["--no-isolate"]
    sys.argv = ["inferload", *words, *own, "--json", str(folder / "result.json")]
    main()


def _ask_torch(row: str, column: str, folder: Path) -> None:
    _alone(folder)
    import torch

    from bare import tried as torch_alone
    from catalogue import rows
    from inferload.targets.inputs.given import as_call_inputs

    torch.manual_seed(0)
    model, inputs = rows()[row].make()
    with contextlib.suppress(NotImplementedError, AttributeError):  # exported modules have no modes
        model.eval()
    answer = torch_alone(model, as_call_inputs(inputs), column)
    (folder / "torch.json").write_text(json.dumps(answer))


def _read(row: str, column: str, rc: int, seconds: float, folder: Path, limit_s: float) -> Trial:
    import torch

    told: dict[str, Any] = {
        "row": row, "column": column, "rc": rc, "seconds": round(seconds, 1),
        "version": torch.__version__,
    }  # fmt: skip
    stderr = folder / "stderr"
    lines = stderr.read_text(errors="replace").strip().splitlines() if stderr.exists() else []
    sentence = next((one.removeprefix("error: ") for one in lines if one.startswith("error: ")), "")
    result = folder / "result.json"
    if not result.exists():
        last = next((one for one in reversed(lines) if one.strip()), "") if lines else ""
        return Trial(**told, said=sentence or f"{_ending(rc, limit_s)}; {last}")
    found = json.loads(result.read_text())
    summary, check = found["summary"], found["verification"] or {}
    if check.get("reason"):
        verified = check["reason"]
    elif check.get("differing"):
        verified = f"{check['differing']} of {check['compared']} outputs differ"
    else:
        verified = "yes" if check.get("compared") else "nothing was compared"
    return Trial(
        **told,
        said=sentence if summary["failed_calls"] or not summary["completed_calls"] else "",
        completed=summary["completed_calls"],
        verified=verified,
        warnings={
            one["code"]: f"{one['message']} -> {one['hint']}"
            for one in found["warnings"]
            if one["code"] in ABOUT_THE_MODEL
        },
    )
