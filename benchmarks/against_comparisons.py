"""One model compared with itself by inferload, pyperf and pytest-benchmark, each as it compares.

    pip install pyperf pytest-benchmark    # in an environment with torch, this one or another
    python benchmarks/against_comparisons.py --rounds 8 --seconds 120 --log rivals.jsonl
    python benchmarks/against_comparisons.py --told rivals.jsonl

Each has as many seconds for both sides together, one after another in an order drawn anew for each
round. pyperf has as many processes as there is time for, by what the second and third take, and
``compare_to`` says whether a difference is significant; its interval is that of Welch's t test,
which it makes. pytest-benchmark has half of the time for each side; what its
``--benchmark-compare-fail=mean:5%`` would say in either direction counts as a claim. inferload
claims what its report claims, of any figure.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import inferload as il

HERE = Path(__file__).resolve().parent.parent
MODEL = HERE / "examples" / "mlp.py"
FAILS_BEYOND = 0.05
_SET_UP = """
import sys

import torch

sys.path.insert(0, {folder!r})
import {module} as module

torch.set_num_threads(1)
model = module.model().eval()
(given,) = module.inputs()[:1]


def call():
    with torch.inference_mode():
        model(given)

"""
_PYPERF = """
import pyperf

pyperf.Runner().bench_func("call", call)
"""
_PYTEST = """
def test_call(benchmark):
    benchmark(call)
"""


def by_inferload(seconds: float, folder: Path, python: str) -> dict[str, Any]:
    """What ``inferload compare`` finds."""
    del python
    saved = folder / "c.json"
    words = [sys.executable, "-m", "inferload", "compare", str(MODEL), str(MODEL)]
    words += ["--threads-per-call", "1", "--time-limit", f"{seconds}s", "--quiet"]
    subprocess.run([*words, "--json", str(saved)], check=True, cwd=HERE, capture_output=True)
    found = il.load_study(saved)
    if not isinstance(found, il.Comparison):
        raise TypeError("compare saves comparisons")
    rate = found.differences[0]
    return {
        "ratio": 1 / rate.ratio,  # of the times, as the others have it
        "low": None if rate.high is None else 1 / rate.high,
        "high": None if rate.low is None else 1 / rate.low,
        "claims": [one.figure for one in found.differences if one.claimed],
    }


def by_pyperf(seconds: float, folder: Path, python: str) -> dict[str, Any]:
    """What ``pyperf compare_to`` finds, of runs one after the other."""
    script = _script(folder / "bench.py", _PYPERF)
    one_s, three_s = (
        _took_s(python, script, "-p", str(count), "-o", str(folder / f"{count}.json"))
        for count in (1, 3)
    )
    left_s = seconds / 2 - (one_s + three_s) / 2 - one_s  # the first one is calibrated by another
    count = max(1 + int(left_s / ((three_s - one_s) / 2)), 2)
    values = []
    for side in "ab":
        saved = folder / f"{side}.json"
        _call(python, script, "-p", str(count), "-o", str(saved))
        document = json.loads(saved.read_text())
        runs = document["benchmarks"][0]["runs"]
        values.append([value for run in runs for value in run.get("values", ())])
    said = _call(python, "-m", "pyperf", "compare_to", folder / "a.json", folder / "b.json")
    low, high = _welch(*values)
    return {
        "ratio": statistics.fmean(values[1]) / statistics.fmean(values[0]),
        "low": low,
        "high": high,
        "claims": ["mean"] if "slower" in said or "faster" in said else [],
        "processes": count,
        "said": said.strip(),
    }


def by_pytest_benchmark(seconds: float, folder: Path, python: str) -> dict[str, Any]:
    """What pytest-benchmark finds, of sessions one after the other."""
    test = _script(folder / "test_bench.py", _PYTEST)
    saved = folder / "found.json"
    words = ["-m", "pytest", test, "-q", "-p", "no:cacheprovider", "--rootdir", folder]
    words.append(f"--benchmark-json={saved}")

    def mean_s(*more: str) -> float:
        _call(python, *words, *more)
        (found,) = json.loads(saved.read_text())["benchmarks"]
        return float(found["stats"]["mean"])

    # how many rounds make so many seconds: it takes the first, slow call for all of them
    began = time.monotonic()
    first_s = mean_s()
    rounds = int(max(seconds / 2 - (time.monotonic() - began), 1.0) / first_s)
    means = [mean_s(f"--benchmark-min-rounds={rounds}") for _ in "ab"]
    ratio = means[1] / means[0]
    beyond = max(ratio, 1 / ratio) > 1 + FAILS_BEYOND
    return {"ratio": ratio, "low": None, "high": None, "claims": ["mean"] if beyond else []}


TOOLS = {"inferload": by_inferload, "pyperf": by_pyperf, "pytest-benchmark": by_pytest_benchmark}


def _script(path: Path, end: str) -> Path:
    path.write_text(_SET_UP.format(folder=str(MODEL.parent), module=MODEL.stem) + end)
    return path


def _call(python: str, *words: object) -> str:
    done = subprocess.run(
        [python, *map(str, words)], check=True, capture_output=True, text=True, cwd="/"
    )
    return done.stdout


def _took_s(python: str, *words: object) -> float:
    began = time.monotonic()
    _call(python, *words)
    return time.monotonic() - began


def _welch(a: list[float], b: list[float]) -> tuple[float, float]:
    """The 95 % interval of the difference of the means, over the mean of A."""
    from scipy import stats

    parts = [statistics.variance(one) / len(one) for one in (a, b)]
    error = math.sqrt(sum(parts))
    degrees = sum(parts) ** 2 / sum(
        part**2 / (len(one) - 1) for part, one in zip(parts, (a, b), strict=True)
    )
    half = float(stats.t.isf(0.025, degrees)) * error
    mean = statistics.fmean(a)
    ratio = statistics.fmean(b) / mean
    return ratio - half / mean, ratio + half / mean


def summary(lines: list[dict[str, Any]]) -> str:
    """What all rounds come to."""
    rows = [
        "| of equals | comparisons | claim a difference | half of its interval | largest ratio |",
        "|---|---|---|---|---|",
    ]
    for tool in TOOLS:
        own = [one for one in lines if one["tool"] == tool]
        if not own:
            continue
        halves = sorted((one["high"] - one["low"]) / 2 for one in own if one["low"] is not None)
        width = "has none"
        if halves:
            width = f"{statistics.median(halves):.1%} ({halves[0]:.1%} to {halves[-1]:.1%})"
        worst = max((one["ratio"] for one in own), key=lambda one: abs(math.log(one)))
        claims = sum(bool(one["claims"]) for one in own)
        rows.append(f"| {tool} | {len(own)} | {claims} | {width} | {worst - 1:+.1%} |")
    return "\n".join(rows)


def main() -> None:
    """Compare, or tell what was compared."""
    words = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    words.add_argument("--rounds", type=int, default=8)
    words.add_argument("--tools", nargs="+", choices=[*TOOLS], default=[*TOOLS])
    words.add_argument("--seconds", type=float, default=120.0)
    words.add_argument("--python", default=sys.executable, help="of the others' environment")
    words.add_argument("--log", type=Path, default=Path("rivals.jsonl"))
    words.add_argument("--told", type=Path, nargs="+", help="logs to be told, and nothing is run")
    chosen = words.parse_args()
    for number in range(0 if chosen.told else chosen.rounds):
        tools = np.random.default_rng(number).permutation(chosen.tools).tolist()
        for tool in tools:
            with tempfile.TemporaryDirectory(prefix="inferload-rivals-") as folder:
                began = time.monotonic()
                found = TOOLS[tool](chosen.seconds, Path(folder), chosen.python)
            line = {"tool": tool, "took_s": round(time.monotonic() - began, 1), **found}
            with chosen.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(json.dumps(line), file=sys.stderr, flush=True)
    logs = chosen.told or [chosen.log]
    texts = [one for file in logs for one in file.read_text(encoding="utf-8").splitlines()]
    print(summary([json.loads(one) for one in texts]))


if __name__ == "__main__":
    main()
