"""What capturing costs a live model: MiniLM with and without it, in turn.

python benchmarks/capture.py
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import torch

import inferload as il
import minilm


def rate(model: torch.nn.Module, inputs: list[dict[str, torch.Tensor]], seconds: float) -> float:
    """Calls per second of one caller."""
    with torch.inference_mode():
        result = il.run(model, inputs, duration_s=seconds, warmup_calls=5, threads_per_call=1)
    return result.summary.throughput_calls_per_s.value


def empty_call_us(path: Path | None, calls: int = 100_000) -> float:
    """What a call of a module that does nothing takes, captured into ``path`` or not."""
    module, x = torch.nn.Identity(), torch.zeros(1)
    with nullcontext() if path is None else il.capture(module, path, limit=10):
        for _ in range(1000):
            module(x)
        began = time.perf_counter()
        for _ in range(calls):
            module(x)
        return (time.perf_counter() - began) / calls * 1e6


def main() -> None:
    """Print the ratio of each round, and their median."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--limit", type=int, default=100)
    words = parser.parse_args()
    model, inputs = minilm.model(), minilm.inputs()
    rate(model, inputs, words.seconds)
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inputs.safetensors"
        for number in range(words.rounds):
            found: dict[bool, float] = {}
            for captured in (False, True) if number % 2 else (True, False):
                if captured:
                    with il.capture(model, path, limit=words.limit):
                        found[captured] = rate(model, inputs, words.seconds)
                else:
                    found[captured] = rate(model, inputs, words.seconds)
            ratios.append(found[True] / found[False])
            print(f"round {number + 1}: {found[False]:.1f}/s without, {found[True]:.1f}/s with")
        pairs = [(empty_call_us(None), empty_call_us(path)) for _ in range(words.rounds)]
    ratios.sort()
    costs = sorted(captured - plain for plain, captured in pairs)
    print(
        f"a call that is not taken: {statistics.median(costs):.2f} us more "
        f"({costs[0]:.2f} to {costs[-1]:.2f})"
    )
    print(
        f"throughput with capture: {statistics.median(ratios):.4f} of that without "
        f"({ratios[0]:.4f} to {ratios[-1]:.4f}, {words.rounds} rounds)"
    )


if __name__ == "__main__":
    main()
