"""Tuning MiniLM against its whole grid: how good what it finds is, and how long both take.

python benchmarks/tune.py [--duration 30] [--rounds 2]
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from inferload.cli.silent import Silent
from inferload.machine.hardware import usable_cores
from inferload.plan.arrivals.loads import ClosedLoop
from inferload.plan.model import ModelSource
from inferload.plan.options import RunOptions
from inferload.studies.child.bench import ChildBench
from inferload.studies.records.settings import Settings
from inferload.studies.tune.candidates import FORMS_OF_A_MODEL, candidates, powers_up_to
from inferload.studies.tune.plan import TunePlan
from inferload.studies.tune.tuner import run_tune
from measuring import Row, print_rows

MODEL = Path(__file__).parents[1] / "examples" / "minilm.py"
BLOCKS = 3


class Telling(Silent):
    """Says what came of each run."""

    def found(self, text: str) -> None:
        """Print it."""
        print(text, flush=True)


def plan_of(full_s: float, *, all_sizes: bool) -> TunePlan:
    """What ``inferload tune examples/minilm.py`` tries, or all that fits the cores."""
    axes: dict[str, tuple[Any, ...]] = {"form": FORMS_OF_A_MODEL}
    if all_sizes:
        axes["processes"] = powers_up_to(int(usable_cores()))
    return TunePlan(
        target=MODEL.name,
        asked={"model": str(MODEL)},
        options=RunOptions(load=ClosedLoop(), duration_s=full_s, warmup="auto").checked(),
        candidates=candidates(axes, int(usable_cores()), all_sizes=all_sizes),
        full_s=full_s,
        words=("model",),
    )


def whole_grid(full_s: float) -> tuple[dict[Settings, float], float]:
    """Calls per second of every configuration, and how long it took to measure them."""
    plan = plan_of(full_s, all_sizes=True)
    rates: dict[Settings, list[float]] = {one: [] for one in plan.candidates}
    began = time.perf_counter()
    with ChildBench(ModelSource(spec=str(MODEL))) as bench:
        for block in range(BLOCKS):
            order = np.random.default_rng([1, block]).permutation(len(plan.candidates))
            for which in order:
                settings = plan.candidates[which]
                result = bench.run(settings, plan.for_(full_s / BLOCKS), Telling())
                rates[settings].append(result.summary.throughput_calls_per_s.value)
                Telling().found(f"grid, {settings}: {rates[settings][-1]:.1f}/s")
    took_s = time.perf_counter() - began
    return {one: statistics.median(own) for one, own in rates.items()}, took_s


def tuned(full_s: float) -> tuple[Settings, float, float]:
    """What tuning finds, how long until it knew, and how long with its pairs."""
    began = time.perf_counter()
    with ChildBench(ModelSource(spec=str(MODEL))) as bench:
        found = run_tune(plan_of(full_s, all_sizes=False), bench, Telling())
    took_s = time.perf_counter() - began
    if found.best is None or found.margin is None:
        raise RuntimeError(f"nothing was found: {found.reason}")
    margin = found.margin.differences[0]
    Telling().found(
        f"tuned: {found.best}, {margin.ratio - 1:+.1%} ({margin.low} to {margin.high}) over the "
        f"default, in {took_s:.0f} s"
    )
    return found.best, margin.ratio, took_s


def main() -> None:
    """Measure and print everything."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--duration", type=float, default=30.0)
    options.add_argument("--rounds", type=int, default=2)
    chosen = options.parse_args()
    first = [tuned(chosen.duration) for _ in range(-(-chosen.rounds // 2))]
    grid, grid_s = whole_grid(chosen.duration)
    tunings = first + [tuned(chosen.duration) for _ in range(chosen.rounds // 2)]
    most = max(grid.values())
    best = max(grid, key=lambda one: grid[one])
    shares = [grid[one] / most for one, _, _ in tunings]
    times = [took_s / grid_s for _, _, took_s in tunings]
    default = grid[Settings(callers=1, threads_per_call=int(usable_cores()))]
    name = f"tune, MiniLM, {usable_cores():g} cores, {len(grid)} configurations"
    rows = [
        Row(
            measure=f"{name}: what it found, of the grid's best ({best})",
            ours=", ".join(f"{grid[one]:.0f}/s ({one})" for one, _, _ in tunings),
            reference=f"{most:.0f}/s",
            figure=f"{min(shares):.3f}",
            spread=f"{min(shares):.3f}-{max(shares):.3f}",
            reach=">= 0.97",
        ),
        Row(
            measure=f"{name}: time, of the grid's",
            ours=", ".join(f"{took_s:.0f} s" for _, _, took_s in tunings),
            reference=f"{grid_s:.0f} s",
            figure=f"{max(times):.3f}",
            spread=f"{min(times):.3f}-{max(times):.3f}",
            reach="<= 0.333",
        ),
        Row(
            measure=f"{name}: margin over the default, by pairs and by the grid",
            ours=", ".join(f"{ratio - 1:+.1%}" for _, ratio, _ in tunings),
            reference=f"{grid[tunings[0][0]] / default - 1:+.1%}",
            figure=f"{tunings[0][1]:.2f}x",
            spread=f"{min(r for _, r, _ in tunings):.2f}-{max(r for _, r, _ in tunings):.2f}",
            reach="-",
        ),
    ]
    print_rows(rows, chosen.rounds)


if __name__ == "__main__":
    main()
