"""What inferload itself costs: memory, set-up, summary, start of the command line."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import inferload as il
from against_reference import NoOp, ns_per_call_ours, ns_per_call_reference
from inferload.stats import summary as stats
from measuring import Row


def memory_rows(rounds: int, scale: int) -> list[Row]:
    """What a million no-op calls of 16 callers cost in memory and set-up, in fresh processes."""
    rounds = max(rounds // 3, 1)
    found = {
        which: [_memory(which, 1_000_000 // scale) for _ in range(rounds)]
        for which in ("ours", "reference")
    }
    rows = []
    for place, (name, unit, reach) in enumerate(
        (("memory growth", "MB", "<= 45 MB"), ("set-up", "s", "<= 0.1 s"))
    ):
        ours = [one[place] for one in found["ours"]]
        its = [one[place] for one in found["reference"]]
        digits = 0 if unit == "MB" else 3
        rows.append(
            Row(
                measure=f"1,000,000 no-op calls, 16 callers: {name}",
                ours=f"{statistics.median(ours):,.{digits}f} {unit}",
                reference=f"{statistics.median(its):,.{digits}f} {unit}",
                figure=f"{statistics.median(ours):,.{digits}f} {unit}",
                spread=f"{min(ours):,.{digits}f}-{max(ours):,.{digits}f}",
                reach=reach,
            )
        )
    return rows


def _memory(which: str, calls: int) -> tuple[float, float]:
    words = [
        sys.executable,
        str(Path(__file__).with_name("run.py")),
        "--memory",
        which,
        "--calls",
        str(calls),
    ]
    grown, set_up = subprocess.run(
        words, check=True, capture_output=True, text=True
    ).stdout.split()[-2:]
    return float(grown), float(set_up)


def print_memory(which: str, calls: int) -> None:
    """Print by how many MB the peak grew, and the seconds that were not spent calling."""
    x, script = torch.zeros(1), torch.jit.script(NoOp().eval())
    ours, reference = ns_per_call_ours, ns_per_call_reference
    (ours if which == "ours" else reference)(script, x, 16, 1000)
    before = peak_bytes()
    started = time.perf_counter()
    if which == "ours":
        result = il.run(script, [x], load=il.ClosedLoop(callers=16), calls=calls)
        set_up = result.set_up.prepare_s + result.set_up.open_s
    else:
        ns = reference(script, x, 16, calls)
        set_up = time.perf_counter() - started - ns * calls / 1e9
    print((peak_bytes() - before) / 1e6, set_up)


def peak_bytes() -> int:
    """The peak of this process's memory; ``ru_maxrss`` would start from its parent's."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def summary_row(rounds: int, scale: int) -> Row:
    """Summary, JSON and log file of ten million logged calls."""
    count = 10_000_000 // scale
    small = il.run(NoOp().eval(), [torch.zeros(1)], calls=1000)
    draws = np.random.default_rng(0)
    started = np.arange(count, dtype=np.int64) * 1000
    seconds, with_log = [], []
    for _ in range(max(rounds // 3, 1)):
        log = il.CallLog(
            scheduled_ns=started,
            started_ns=started.copy(),
            finished_ns=started + draws.exponential(1e5, count).astype(np.int64) + 1,
            caller=np.zeros(count, np.int32),
            input=np.zeros(count, np.int32),
            error=np.full(count, -1, np.int32),
        )
        begun = time.perf_counter()
        summary = stats.summarize(log, (1,))
        summarized = time.perf_counter() - begun
        result = il.RunResult(
            **{
                name: getattr(small, name)
                for name in small.__dataclass_fields__
                if name not in {"summary", "log"}
            },
            summary=summary,
            log=log,
        )
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            result.save(Path(folder) / "r.json")
            with_log.append(summarized + time.perf_counter() - begun)
        seconds.append(summarized)
    return Row(
        measure="10,000,000 logged calls: summary, JSON and log file",
        ours=f"{statistics.median(with_log):.2f} s",
        reference="-",
        figure=f"{statistics.median(with_log):.2f} s",
        spread=f"{min(with_log):.2f}-{max(with_log):.2f}",
        reach="<= 3 s",
    )


def help_row(rounds: int) -> Row:
    """``inferload --help``, as a whole process."""
    seconds = []
    for _ in range(rounds):
        begun = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "inferload", "--help"], check=True, capture_output=True
        )
        seconds.append(time.perf_counter() - begun)
    return Row(
        measure="inferload --help",
        ours=f"{statistics.median(seconds):.3f} s",
        reference="-",
        figure=f"{statistics.median(seconds):.3f} s",
        spread=f"{min(seconds):.3f}-{max(seconds):.3f}",
        reach="<= 0.2 s",
    )


_STAMPS = """
import time, torch

class Stamps(torch.nn.Module):
    def forward(self, x):
        with open({path!r}, "w") as file:
            file.write(str(time.time()))
        return x

model = Stamps()

def inputs():
    return [torch.ones(1)]
"""


def start_row(rounds: int) -> Row:
    """From the command to its first measured call, against ``python -c "import torch"``."""
    ours, its = [], []
    with tempfile.TemporaryDirectory() as folder:
        model, stamp = Path(folder) / "stamps.py", Path(folder) / "stamp"
        model.write_text(_STAMPS.format(path=str(stamp)))
        words = ["-m", "inferload", "run", str(model), "--calls", "1"]
        for _ in range(rounds):
            begun = time.time()
            subprocess.run([sys.executable, "-c", "import torch"], check=True)
            its.append(time.time() - begun)
            begun = time.time()
            subprocess.run([sys.executable, *words], check=True, capture_output=True)
            ours.append(float(stamp.read_text()) - begun)  # that of its last call
    ratios = [own / other for own, other in zip(ours, its, strict=True)]
    return Row(
        measure='inferload run, to the first measured call, against python -c "import torch"',
        ours=f"{statistics.median(ours):.2f} s",
        reference=f"{statistics.median(its):.2f} s",
        figure=f"{statistics.median(ratios):.2f}x",
        spread=f"{min(ratios):.2f}-{max(ratios):.2f}",
        reach="<= 1.15x",
    )
