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

from inferload.plan.arrivals.loads import OpenLoop
from inferload.studies.forecast.compiled import IS_COMPILED
from inferload.studies.forecast.simulation import Work, simulated
from inferload.studies.forecast.state import Replica, Rules

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferload.log.arrays import Floats
    from inferload.studies.forecast.simulation import Simulated

MEAN_MS = 1.0
EXPONENTIAL: Floats = -np.log1p(-(np.arange(1 << 16) + 0.5) / (1 << 16))


def queue(
    load: float,
    slots: int = 1,
    *,
    replicas: int = 1,
    shapes: Floats = EXPONENTIAL,
    balancing: str = "random",
    requests: int = 20_000_000,
) -> Simulated:
    """Replicas whose calls take 1 ms in the mean, with so much of what they can make due."""
    replica = Replica(
        rules=Rules(slots=slots, max_batch=1, delay_ns=0.0, window_ns=math.inf),
        pace=np.ones(slots + 1),
        work_ns=np.array([0.0, MEAN_MS * 1e6]),
        table=np.zeros((slots + 1, 2), np.int64),
        shapes=np.atleast_2d(shapes / shapes.mean()),
        speed=np.ones(1),
    )
    rate = load * replicas * slots * 1e3 / MEAN_MS
    schedule = OpenLoop.poisson(rate, seed=3).schedule(requests, None)
    return simulated(schedule, replicas, replica, Work(factors=np.ones(1)), balancing, 5)


def waits_ms(slots: int, load: float) -> float:
    """The mean wait of M/M/c (Erlang C)."""
    offered = slots * load
    terms = [offered**k / math.factorial(k) for k in range(slots)]
    last = offered**slots / math.factorial(slots) / (1 - load)
    return last / (sum(terms) + last) * MEAN_MS / (slots * (1 - load))


def two_choices_ms(load: float) -> float:
    """The mean response of the less loaded of two among very many (Mitzenmacher 2001)."""
    return float(sum(load ** (2**i - 2) for i in range(1, 12))) * MEAN_MS


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
    sys.path.insert(0, str(Path(__file__).parent))
    main()
