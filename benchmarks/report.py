"""How long a report of 10 million calls takes, how large it is, and when a browser shows it.

python benchmarks/report.py
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

import inferload as il

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))


def saved_run(path: Path, calls: int) -> il.RunResult:
    """A real run of so many calls of an empty model, saved."""
    model = torch.jit.script(torch.nn.Identity().eval())
    with torch.inference_mode():
        result = il.run(
            model, [torch.zeros(1)], load=il.ClosedLoop(callers=2), calls=calls, threads_per_call=1
        )
    result.save(path)
    return result


def main() -> None:
    """Print the medians over the rounds, with their range."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=10_000_000)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path, page = Path(folder) / "run.json", Path(folder) / "run.html"
        result = saved_run(path, words.calls)
        print(
            f"{len(result.log):,} calls, a log of "
            f"{path.with_suffix('.calls').stat().st_size:,} bytes"
        )
        tool = str(Path(sys.executable).parent / "inferload")
        command = [tool, "report", str(path), "--html", str(page)]
        times = []
        for _ in range(words.rounds):
            began = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - began)
        tell("inferload report --html, s", times)
        print(f"size: {page.stat().st_size:,} bytes")
        began = time.perf_counter()
        il.export(result, Path(folder) / "calls.pftrace")
        print(f"trace of the first million calls: {time.perf_counter() - began:.2f} s")
        from support.browser import browser

        paints = []
        with browser(Path(folder) / "profile") as chromium:
            for _ in range(words.rounds):
                opened = chromium.open(page)
                paints.append(opened.first_paint_ms)
                if opened.console or opened.requested:
                    print("said or asked:", opened.console, opened.requested)
        tell("first contentful paint, ms", paints)


def tell(what: str, values: list[float]) -> None:
    """The median with its range."""
    print(f"{what}: {statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    main()
