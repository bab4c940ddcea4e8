"""What capturing costs a live model: MiniLM with and without it, in turn.

python benchmarks/capture.py
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
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
    ratios.sort()
    print(
        f"throughput with capture: {statistics.median(ratios):.4f} of that without "
        f"({ratios[0]:.4f} to {ratios[-1]:.4f}, {words.rounds} rounds)"
    )


if __name__ == "__main__":
    main()
