"""Record what a machine does to comparisons of a model with itself, to test comparisons by.

    python benchmarks/noise.py --minutes 60 --into tests/data/noise.npz
    python benchmarks/noise.py --told tests/data/noise.npz

Pairs of fresh processes with one model on both sides, called by slices in turn, as ``inferload
compare`` does, one kind of model after another. What is there already stays, and more is added.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from inferload.plan.model import ModelSource
from inferload.plan.options import RunOptions
from inferload.stats.slices.judging import FEWEST_PROCESS_PAIRS
from inferload.studies.child.bench import ChildBench
from inferload.studies.records.slices import Timing
from inferload.studies.slices.engine import SliceEngine
from inferload.studies.slices.plan import SlicePlan
from support.recorded_noise import FIGURES, FILE, claims, compared, drawn, recorded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.studies.records.comparison import Difference
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
MINUTES = (1, 2, 5, 15)
DRAWS = 300


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


def told(path: Path) -> str:
    """How narrow comparisons of what was recorded are, by their minutes, and how often they err."""
    rows = [
        "| model | minutes | pairs | throughput | p99 | finds a loss of | claims of equals |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in KINDS:
        with np.load(path) as found:
            each_s = found[f"{kind}_took_s"]
        logs, rng = recorded(kind, path), np.random.default_rng(1)
        for minutes in MINUTES:
            pairs = max(round(60 * minutes / float(each_s.mean())), FEWEST_PROCESS_PAIRS)
            made = [compared(drawn(logs, pairs, rng)) for _ in range(DRAWS)]
            figures = [{one.figure: one for one in study.differences} for study in made]
            p99 = "-"
            if "p99" in figures[0]:
                p99 = f"±{_half([one['p99'] for one in figures]):.1%}"
            loss = statistics.median(one["throughput"].detectable_fraction or 0 for one in figures)
            rate = _half([one["throughput"] for one in figures])
            wrong = sum(bool(claims(one)) for one in made) / len(made)
            took = pairs * float(each_s.mean()) / 60
            cells = [kind, f"{took:.2g}", f"{pairs}", f"±{rate:.1%}", p99]
            rows.append(f"| {' | '.join(cells)} | {loss:.1%} | {wrong:.1%} |")
        rows.append(f"| {kind} | {each_s.sum() / 60:.0f} in all | {len(logs)} | | | | |")
    return "\n".join(rows)


def _half(differences: Sequence[Difference]) -> float:
    halves = [
        (one.high - one.low) / 2
        for one in differences
        if one.high is not None and one.low is not None
    ]
    return statistics.median(halves)


def main() -> None:
    """Record until the time is over."""
    words = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    words.add_argument("--minutes", type=float, default=60.0)
    words.add_argument("--into", type=Path)
    words.add_argument("--told", type=Path, help="a file to be told, and nothing is recorded")
    chosen = words.parse_args()
    if chosen.told is not None or chosen.into is None:
        print(told(chosen.told or FILE))
        return
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
