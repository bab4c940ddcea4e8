"""Record what a machine does to comparisons of a model with itself, to test comparisons by.

    python benchmarks/noise.py --minutes 60 --into tests/data/noise.npz

Pairs of fresh processes with one model on both sides, called by slices in turn, as ``inferload
compare`` does, one kind of model after another. What is there already stays, and more is added.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from inferload.plan.model import ModelSource
from inferload.plan.options import RunOptions
from inferload.studies.child.bench import ChildBench
from inferload.studies.records.slices import Timing
from inferload.studies.slices.engine import SliceEngine
from inferload.studies.slices.plan import SlicePlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.studies.records.slices import SlicedPair

KINDS = {
    "mlp": ModelSource(spec="examples/mlp.py"),
    "script": ModelSource(spec="examples/mlp.py", form="script"),
    "minilm": ModelSource(spec="examples/minilm.py"),
}
#: As ``inferload compare`` takes them in two minutes.
TIMINGS = {
    "mlp": Timing(slice_s=0.1, slices=30, pairs=1000, looks=(1000,)),
    "script": Timing(slice_s=0.1, slices=30, pairs=1000, looks=(1000,)),
    "minilm": Timing(slice_s=0.5, slices=6, pairs=1000, looks=(1000,)),
}
FIGURES = ("throughput", "p50", "p90", "p95", "p99", "p999")


class Quiet:
    """Nobody is told of anything."""

    def stage(self, text: str) -> None:
        """A stage of a run."""

    def progress(self, finished_calls: int, elapsed_s: float) -> None:
        """How far it is."""

    def begins(self, text: str) -> None:
        """What is done now."""

    def found(self, text: str) -> None:
        """What came of it."""


def added(kind: str, pairs: Sequence[SlicedPair], into: Path) -> None:
    """Write pairs of processes beside those of before: of each the slices, one after another."""
    new = {
        "slices": np.array([len(one.order) for one in pairs], np.int32),
        "took_s": np.array([one.took_s for one in pairs], np.float32),
        "a_first": np.array([side == "a" for one in pairs for side in one.order]),
        "a_per_s": np.concatenate([np.array(one.a_per_s, np.float32) for one in pairs]),
        "b_per_s": np.concatenate([np.array(one.b_per_s, np.float32) for one in pairs]),
        "log_ratios": np.array([_log_ratios(one) for one in pairs], np.float32),
    }
    arrays = dict(np.load(into)) if into.exists() else {}
    for name, values in new.items():
        key = f"{kind}_{name}"
        arrays[key] = np.concatenate([arrays[key], values]) if key in arrays else values
    into.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(into, **arrays)


def _log_ratios(pair: SlicedPair) -> list[float]:
    found = [pair.figure(name) for name in FIGURES]
    return [math.nan if one is None else one.log_ratio for one in found]


def main() -> None:
    """Record until the time is over."""
    words = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    words.add_argument("--minutes", type=float, default=60.0)
    words.add_argument("--into", type=Path, required=True)
    chosen = words.parse_args()
    of_run = RunOptions(duration_s=0.1, threads_per_call=1, warmup="fixed").checked()
    began = time.time()
    number = int(began)
    while time.time() - began < 60 * chosen.minutes:
        for kind, source in KINDS.items():
            number += 1
            options = {"a": of_run, "b": of_run}
            plan = SlicePlan(a=kind, b=kind, asked={}, options=options, seed=number)
            with ChildBench(source, fresh=True) as first, ChildBench(source, fresh=True) as second:
                benches = {"a": first, "b": second}
                pair = SliceEngine(plan, benches, Quiet(), timing=TIMINGS[kind]).pair()
            added(kind, [pair], chosen.into)
            ratio = pair.figures[0].log_ratio
            print(f"{kind} {ratio:+.2%}, {pair.took_s:.1f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
