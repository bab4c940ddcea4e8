"""Record what a machine does to comparisons of a model with itself, to test comparisons by.

    python benchmarks/noise.py --minutes 60 --into tests/data/noise.npz

Pairs of fresh processes with one model on both sides, called by slices in turn, as ``inferload
compare`` does, one kind of model after another. What is there already stays, and more is added.
"""

from __future__ import annotations

import argparse
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
    from numpy.typing import NDArray

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
FIGURES = ("throughput", "p50", "p90", "p95", "p99")


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


def row_of(pair: SlicedPair, began_s: float) -> dict[str, NDArray[np.generic]]:
    """What is kept of a pair of processes."""
    ratios = [np.nan if (one := pair.figure(name)) is None else one.log_ratio for name in FIGURES]
    return {
        "began_s": np.array(began_s),
        "took_s": np.array(pair.took_s),
        "a_first": np.array([one == "a" for one in pair.order]),
        "a_per_s": np.array(pair.a_per_s, np.float32),
        "b_per_s": np.array(pair.b_per_s, np.float32),
        "log_ratios": np.array(ratios, np.float32),
    }


def saved(rows: dict[str, list[dict[str, NDArray[np.generic]]]], into: Path) -> None:
    """Write all rows there are, beside those of before."""
    before = dict(np.load(into)) if into.exists() else {}
    arrays = {}
    for kind, own in rows.items():
        for name in own[0] if own else ():
            new = np.stack([one[name] for one in own])
            key = f"{kind}_{name}"
            arrays[key] = np.concatenate([before[key], new]) if key in before else new
    into.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(into, **(before | arrays))


def main() -> None:
    """Record until the time is over."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--minutes", type=float, default=60.0)
    options.add_argument("--into", type=Path, required=True)
    chosen = options.parse_args()
    of_run = RunOptions(duration_s=0.1, threads_per_call=1, warmup="fixed").checked()
    rows: dict[str, list[dict[str, NDArray[np.generic]]]] = {kind: [] for kind in KINDS}
    began = time.time()
    number = int(began)
    try:
        while time.time() - began < 60 * chosen.minutes:
            for kind, source in KINDS.items():
                number += 1
                plan = SlicePlan(
                    a=kind, b=kind, asked={}, options={"a": of_run, "b": of_run}, seed=number
                )
                with (
                    ChildBench(source, fresh=True) as first,
                    ChildBench(source, fresh=True) as second,
                ):
                    engine = SliceEngine(
                        plan, {"a": first, "b": second}, Quiet(), timing=TIMINGS[kind]
                    )
                    started = time.time()
                    pair = engine.pair()
                rows[kind].append(row_of(pair, started))
                ratio = pair.figures[0].log_ratio
                print(f"{kind} {ratio:+.2%}, {pair.took_s:.1f} s", file=sys.stderr, flush=True)
    finally:
        saved(rows, chosen.into)


if __name__ == "__main__":
    main()
