"""What a model makes by slices, against what it makes in whole runs of the same time.

    python benchmarks/slices.py [--model examples/mlp.py] [--callers 1,2,4,8] [--device cuda:0]

In turn in one process: slices one after another, as ``inferload sweep`` has them, and a whole run.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch

from inferload.plan.arrivals.loads import ClosedLoop
from inferload.plan.options import RunOptions
from inferload.runs.run import Logging
from inferload.studies.local.bench import LocalBench
from inferload.studies.records.settings import Settings
from inferload.studies.slices.turns import Turns
from measuring import middle_and_range, to_and_fro


def main() -> None:
    """Print a line for each number of callers."""
    words = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    words.add_argument("--model", default="examples/mlp.py")
    words.add_argument("--callers", default="1,2,4,8")
    words.add_argument("--device")
    words.add_argument("--seconds", type=float, default=1.0)
    words.add_argument("--rounds", type=int, default=9)
    words.add_argument("--form")
    chosen = words.parse_args()
    more: dict[str, Any] = {"devices": (chosen.device,)} if chosen.device else {}
    options = RunOptions(
        duration_s=chosen.seconds, threads_per_call=1, load=ClosedLoop(), warmup="fixed", **more
    ).checked()
    bench = LocalBench.of_model(chosen.model, None)
    turns = Turns(options, bench.turns(), Logging())
    print("| callers | by slices / in whole runs | range | p50 of slices / of runs |")
    print("|---|---|---|---|")
    for callers in map(int, chosen.callers.split(",")):
        settings = Settings(callers=callers, form=chosen.form)

        def sliced(settings: Settings = settings) -> tuple[float, float]:
            (run,) = turns.block([settings], 0)
            return _figures(run.summary)

        def whole(settings: Settings = settings) -> tuple[float, float]:
            return _figures(bench.run(settings, options, Logging()).summary)

        with torch.inference_mode():
            found = to_and_fro(chosen.rounds, sliced, whole)
        rates, medians = (
            middle_and_range([a[which] / b[which] for a, b in zip(*found, strict=True)])
            for which in (0, 1)
        )
        middle, low, high = rates
        print(
            f"| {callers} | {middle:.3f}x | {low:.2f}-{high:.2f} | {medians[0]:.3f}x |", flush=True
        )


def _figures(summary: Any) -> tuple[float, float]:
    return summary.throughput_calls_per_s.value, summary.response_ms.p50.value


if __name__ == "__main__":
    main()
