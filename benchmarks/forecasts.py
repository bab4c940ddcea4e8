"""Forecasts against theory, and how many requests a second they simulate.

python benchmarks/forecasts.py            # about a minute, one core
"""

from __future__ import annotations

import math
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from inferload.studies.forecast.compiled import IS_COMPILED
from support.fleet_queues import MEAN_MS, queue, two_choices_ms, waits_ms

if TYPE_CHECKING:
    from collections.abc import Callable


def theory() -> list[str]:
    """A line for each queue whose answer is known."""
    rows = ["| queue | figure | theory | simulated | off |", "|---|---|---|---|---|"]

    def row(name: str, figure: str, known: float, found: float) -> None:
        off = found / known - 1
        rows.append(f"| {name} | {figure} | {known:.4g} ms | {found:.4g} ms | {off:+.2%} |")

    for slots, load in ((1, 0.8), (4, 0.8), (16, 0.9)):
        found = queue(load, slots)
        row(f"M/M/{slots}, load {load:g}", "mean wait", waits_ms(slots, load), found.queue_ms)
    for slots, load in ((1, 0.8), (4, 0.8)):
        found = queue(load, slots, shapes=np.ones(1))
        if slots == 1:
            known = load / (2 * (1 - load)) * MEAN_MS
        else:  # Tijms, Stochastic Models (1994), by Cosmetatos: within 1 % of exact
            more = (1 - load) * (slots - 1) * (math.sqrt(4 + 5 * slots) - 2) / (16 * load * slots)
            known = 0.5 * (1 + more) * waits_ms(slots, load)
        row(f"M/D/{slots}, load {load:g}", "mean wait", known, found.queue_ms)
    for load in (0.7, 0.9):
        found = queue(load, replicas=1000, balancing="two-choices")
        row(
            f"1,000 replicas, two choices, load {load:g}",
            "mean response",
            two_choices_ms(load),
            found.response_ms.mean,
        )
    return rows


def speeds() -> list[str]:
    """A line for each kind of fleet: requests a second, on one core."""
    rows = ["| fleet | requests | seconds | a second |", "|---|---|---|---|"]
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("1 replica of 1 caller", {"load": 0.8}),
        ("1 replica of 4 callers", {"load": 0.8, "slots": 4}),
        ("1 replica of 16 callers", {"load": 0.9, "slots": 16}),
    ]
    kinds += [
        (f"10,000 replicas, {kind}", {"load": 0.8, "replicas": 10_000, "balancing": kind})
        for kind in ("random", "round-robin", "two-choices", "least-loaded")
    ]
    kinds.append(
        (
            "10,000 replicas, two-choices",
            {
                "load": 0.8,
                "replicas": 10_000,
                "balancing": "two-choices",
                "requests": 100_000_000,
            },
        )
    )
    for name, words in kinds:
        took_s = _took_s(lambda words=words: queue(**words))  # type: ignore[misc]
        count = words.get("requests", 20_000_000)
        rows.append(
            f"| {name} | {count / 1e6:,.0f} M | {took_s:.1f} | {count / took_s / 1e6:.1f} M |"
        )
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return [*rows, "", f"largest resident set: {most:.2f} GiB"]


def _took_s(made: Callable[[], object]) -> float:
    began = time.perf_counter()
    made()
    return time.perf_counter() - began


def main() -> None:
    """Print both tables."""
    if not IS_COMPILED:
        sys.exit("numba is not installed: pip install 'inferload[forecast]'")
    queue(0.5, requests=10_000)  # compiled before anything is timed
    print("\n".join([*theory(), "", *speeds()]))


if __name__ == "__main__":
    main()
